"""`python -m deploy.local up|down|demo`: the local stack, behind the Makefile."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc

from deploy.local.stack import REPOSITORY, Ports, Stack
from deploy.local.supervisor import StackError
from passerby import Client
from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from training.synthetic.dataset import generate

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEMO_GALLERY = "demo"
DEMO_IMAGES = 1200
# Far from the seeds of the training sets: nobody in the demo was seen in training.
DEMO_SEED = 20_181
DEMO_CAPTION = "a woman in an orange ankle-length dress with a black backpack"


def up(stack: Stack) -> None:
    stack.up()
    print(f"Passerby is up: {stack.page}  (gRPC {stack.query}, queue {stack.redis_url})")
    print(f"Logs and data: {stack.state}    Stop it with: make down")


def demo(stack: Stack) -> None:
    """Everything, with a gallery in it and a first search; stops the stack at the end."""
    stack.refuse_other_ports()
    # Whichever signal ends it, that of a closed terminal included: nothing stays behind.
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)
    print("Starting Redis, Milvus, embedder, indexer and query ...")
    try:
        stack.up()
        fill_gallery(stack)
        print(f'\n$ passerby search --gallery {DEMO_GALLERY} --top-k 5 "{DEMO_CAPTION}"')
        passerby(stack, "search", "--gallery", DEMO_GALLERY, "--top-k", "5", DEMO_CAPTION)
        print(f"\nThe page: {stack.page}?gallery={DEMO_GALLERY}")
        print("Ctrl-C stops everything; the data stays in", stack.state, flush=True)
        while not (dead := stack.dead()):
            time.sleep(0.5)
        raise StackError(f"{', '.join(dead)} exited; the logs are in {stack.state / 'logs'}")
    except KeyboardInterrupt:
        print("\nStopping ...")
    finally:
        # A second Ctrl-C must not leave half of it running.
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        stack.down()


def fill_gallery(stack: Stack) -> None:
    """Draws the demo's people and pushes them through the queue, unless that is done already.

    They are pushed again if the model is not the one that embedded them.
    """
    images = stack.state / "demo-people"
    if not (images / "reid_raw.json").exists():
        print(f"Drawing {DEMO_IMAGES} images of people ...")
        generate(images, images=DEMO_IMAGES, seed=DEMO_SEED, workers=os.cpu_count() or 1)
    with grpc.insecure_channel(stack.embedder) as channel:
        embedder = embedder_pb2_grpc.EmbedderStub(channel)
        model = embedder.GetModel(embedder_pb2.GetModelRequest(), timeout=10).version
    with Client(query=stack.query, redis_url=stack.redis_url) as client:
        is_filled = any(
            gallery.name == DEMO_GALLERY and gallery.model == model and gallery.count >= DEMO_IMAGES
            for gallery in client.galleries()
        )
    if not is_filled:
        passerby(stack, "push", str(images), "--gallery", DEMO_GALLERY)


def passerby(stack: Stack, *arguments: str) -> None:
    """Runs the command line as a user would."""
    command = [str(Path(sys.executable).with_name("passerby")), *arguments]
    ours = {"PASSERBY_QUERY": stack.query, "REDIS_URL": stack.redis_url, "REDIS_PASSWORD": ""}
    subprocess.run(command, env={**os.environ, **ours}, check=True)


def main(arguments: list[str]) -> None:
    commands = {"up": up, "down": Stack.down, "demo": demo}
    if len(arguments) != 1 or arguments[0] not in commands:
        sys.exit("usage: python -m deploy.local up|down|demo")
    state = Path(os.environ.get("PASSERBY_STATE", REPOSITORY / ".passerby"))
    try:
        commands[arguments[0]](Stack(state, Ports.from_environment(os.environ), os.environ))
    except StackError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)} failed; see the logs in {state / 'logs'}")


if __name__ == "__main__":
    main(sys.argv[1:])
