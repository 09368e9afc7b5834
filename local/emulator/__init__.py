"""The emulator: MiniStack with the SageMaker that it lacks, as one server, in the environment `cloud`."""
