"""What both Python sides of the benches share: answering tasks, one JSON line each, and the memory that one takes."""

import json
import logging
import os
import sys
from importlib.metadata import version

import torch


def kibibytes(line):
    with open("/proc/self/status") as status:
        return next(int(row.split()[1]) for row in status if row.startswith(line))


def clear_peak():
    """The high-water mark falls to what is resident."""
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")


def forked(measure):
    """What `measure` answers in a fork, so that each begins alike; nothing where there is no Linux."""
    if sys.platform != "linux":
        return {}
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(measure()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text or '{"error": "the process ended"}')


def serve(made, timed, peak):
    """Answers tasks until there are none; what was made for one is kept while the next is the same."""
    # LyCORIS logs to stdout, which is for answers: from here on that is stderr
    logging.disable(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(sys.argv[1]))
    versions = f"torch {torch.__version__}, lycoris-lora {version('lycoris-lora')}"
    print(json.dumps({"ready": versions}), file=answers, flush=True)
    name, run = None, None
    for line in sys.stdin:
        task = json.loads(line)
        try:
            if task.get("memory"):
                answer = forked(lambda: peak(task))
            else:
                now = json.dumps({**task, "budget": 0})
                if now != name:
                    run = None
                    name, run = now, made(task)
                answer = timed(run, task)
        except Exception as error:  # one mode of one case: the others are measured all the same
            name, answer = None, {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
