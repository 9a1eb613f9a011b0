# NVIDIA's server with Headrace's backend: docker build -f deploy/triton.Dockerfile -t headrace-triton .
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3
FROM ${TRITON_IMAGE}
WORKDIR /app
COPY pyproject.toml README.md ./
COPY engine engine
COPY streams streams
# Into the interpreter that the server's python stub takes; what the worker needs besides is not imported by the backend.
RUN pip install --no-cache-dir --no-deps . \
 && pip install --no-cache-dir torch safetensors "numpy>=1.26" confluent-kafka msgspec structlog stamina pydantic-settings
COPY model_repo/backends/headrace /opt/tritonserver/backends/headrace
COPY deploy/triton.sh /usr/local/bin/headrace-triton
VOLUME /models
CMD ["headrace-triton"]
