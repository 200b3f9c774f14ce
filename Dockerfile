# Serves a run folder over HTTP: docs/serve.md, "In a container".
FROM python:3.12-slim AS build
# Where PyTorch's CPU build comes from: the address after --index-url that PyTorch's install selector shows for "CPU".
# Without it the default build is taken, on Linux one of several GB with the libraries for NVIDIA GPUs.
ARG TORCH_INDEX=""
ARG EXTRAS="serve,flow"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH="/opt/muybridge/bin:$PATH"
RUN python -m venv /opt/muybridge
# No versions are pinned here: pyproject.toml says which ones work.
# hadolint ignore=DL3013,DL3059
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch torchvision; fi
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY recipes recipes
COPY src src
# hadolint ignore=DL3013
RUN pip install ".[$EXTRAS]"

FROM python:3.12-slim
COPY --from=build /opt/muybridge /opt/muybridge
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin muybridge
USER 10001:10001
WORKDIR /tmp
ENV PATH="/opt/muybridge/bin:$PATH" PYTHONUNBUFFERED=1 HF_HOME=/tmp/huggingface MPLCONFIGDIR=/tmp/matplotlib
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["muybridge", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/srv/run"]
