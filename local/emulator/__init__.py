"""The emulator: one server with MiniStack and the local SageMaker, in the environment `cloud`."""
