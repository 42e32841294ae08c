"""Executes notebooks, each in a fresh kernel, and tells of each in one line of JSON.

execute.py FOLDER NAME...: the notebooks FOLDER/NAME.ipynb are executed in place; one that fails stays as it was.
"""

import json
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

SECONDS_A_CELL = 300
# what lib/display/setup.ts writes of an error that no cell awaits, which ends nothing
UNAWAITED = "Unawaited error:"


def lives(output: dict) -> bool:
    """Whether an output is a page of the kernel's own server, which ends with it: a slider."""
    return "http://127.0.0.1:" in output.get("data", {}).get("text/html", "")


def execute(path: Path) -> dict:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name="deno",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    place = {"cell": 0}
    client.on_cell_execute = lambda cell, cell_index: place.update(cell=cell_index)

    def fault(index: int, error: str) -> dict:
        return {"cell": index, "error": error, "source": notebook.cells[index].source}

    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        text = getattr(error, "evalue", "") or str(error)
        name = getattr(error, "ename", "") or type(error).__name__
        return fault(place["cell"], f"{name}: {text}".strip())
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if UNAWAITED in output.get("text", ""):
                return fault(index, output["text"].strip())
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not lives(output)]
    nbformat.write(notebook, path)
    return {}


folder, *names = sys.argv[1:]
for name in names:
    start = time.monotonic()
    result = execute(Path(folder) / f"{name}.ipynb")
    seconds = round(time.monotonic() - start, 1)
    print(json.dumps({"chapter": name, "seconds": seconds, **result}), flush=True)
