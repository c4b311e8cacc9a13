"""The chain: simulate, dataset, train, infer, check; beside it, studies; below it, what they share."""

if (
    __name__ != "simfer.stages"
):  # found because the folder lies on Python's path: its classes would be others than Simfer's
    raise ImportError("this is simfer.stages; what there is to import is in simfer: from simfer import ODESimulator")
