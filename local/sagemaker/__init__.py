"""SageMaker, which MiniStack lacks: the API's operations, and the jobs and endpoints that the operations
start."""
