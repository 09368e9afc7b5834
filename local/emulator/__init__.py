"""The emulator: one server with MiniStack (an open-source AWS emulator) and the local SageMaker."""
