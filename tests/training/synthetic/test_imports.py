"""Drawing people needs numpy and Pillow: no PyTorch, and nothing of the services."""

import subprocess
import sys

IMPORTED = """
import sys
import training.synthetic.__main__
print(*sorted({name.split(".")[0] for name in sys.modules} - {*sys.stdlib_module_names}))
print(*sorted(name for name in sys.modules if name.startswith("training")))
"""


def test_drawing_people_imports_neither_torch_nor_a_service() -> None:
    run = [sys.executable, "-c", IMPORTED]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    packages, ours = (line.split() for line in found.splitlines())
    assert {"PIL", "numpy", "click", "rich"} <= {*packages}
    assert not {*packages} & {"torch", "torchvision", "services", "passerby"}
    assert all(name == "training" or name.startswith("training.synthetic") for name in ours)


def test_importing_the_packages_imports_nothing_heavy() -> None:
    program = (
        "import sys, training, training.synthetic; print('numpy' in sys.modules, len(sys.modules))"
    )
    run = [sys.executable, "-c", program]
    heavy, count = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert heavy == "False"
    assert int(count) < 100
