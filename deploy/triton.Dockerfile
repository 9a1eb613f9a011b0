# NVIDIA's server with Headrace's backend: docker build -f deploy/triton.Dockerfile -t headrace-triton .
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3
FROM ${TRITON_IMAGE}
WORKDIR /src
# Into the interpreter that the server's python stub takes, which is the system's and says that it is not ours.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
COPY deploy/triton.lock ./
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes -r triton.lock
COPY pyproject.toml README.md ./
COPY engine engine
COPY streams streams
RUN python3 -m pip install --no-cache-dir --no-deps .
COPY model_repo/backends/headrace /opt/tritonserver/backends/headrace
RUN useradd --uid 10001 headrace && install -d -o headrace /data
USER 10001
WORKDIR /data
ENV HEADRACE_DATA_DIR=/data
VOLUME /data
# Arguments after it go to tritonserver, as --grpc-use-ssl=true does. NVIDIA's entrypoint stays: it finds the driver.
CMD ["python3", "-m", "streams.triton.container"]
