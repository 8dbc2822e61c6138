"""Work on the chart without a cluster: `python -m deploy.helm generate|check|deps|manifests`."""

import sys
from pathlib import Path

import click
import helm_python as helm
import yaml

from deploy.helm.dependency import NoMilvusChart, fetch, is_there
from deploy.helm.manifests import HEADER, PROFILES, manifests, values_of
from deploy.helm.reference import CHART, generated

WARNING = 2


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
def generate() -> None:
    """Write what is generated: README.md's tables and the settings in values.schema.json."""
    for path, text in generated().items():
        if path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path}")


@main.command()
def check() -> None:
    """Lint the chart and render every profile."""
    problems = [
        f"{message['path']}: {message['error']}"
        for message in helm.lint(CHART)["messages"]
        if message["severity"] >= WARNING
        # Milvus is fetched by `make chart-deps`; Passerby's own objects render without it.
        and "missing these dependencies" not in message["error"]
    ]
    if problems:
        sys.exit("\n".join(problems))
    for profile in PROFILES:
        print(f"{profile.stem}: {len(manifests(CHART, values_of(profile)))} objects")


@main.command()
@click.argument("repository")
def deps(repository: str) -> None:
    """Fetch the Milvus chart that Chart.yaml names from a chart REPOSITORY into charts/."""
    try:
        print(f"{fetch(CHART, repository)} is in {CHART / 'charts'}")
    except NoMilvusChart as error:
        sys.exit(str(error))


@main.command("manifests")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--namespace",
    default="default",
    show_default=True,
    help="Namespace that they will be applied to.",
)
def write_manifests(folder: Path, namespace: str) -> None:
    """Write one file for each profile into FOLDER, for `kubectl apply`."""
    if not is_there(CHART):
        sys.exit("the Milvus chart is missing: `make chart-deps MILVUS_CHARTS=...` fetches it")
    folder.mkdir(parents=True, exist_ok=True)
    for profile in PROFILES:
        path = folder / f"{profile.stem}.yaml"
        items = manifests(CHART, values_of(profile), namespace)
        path.write_text(HEADER.format(namespace=namespace) + yaml.safe_dump_all(items))
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
