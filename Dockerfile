# The service in a container, as docs/serve.md describes it.
#
#   docker build --tag anomreason .                              for models on a server
#   docker build --tag anomreason --build-arg EXTRAS=local .     loads models itself too, the bundled one included
#
# EXTRAS names extras of pyproject.toml, separated by commas. With `local`, torch is the build for CPU; another
# TORCH_INDEX takes another build.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG EXTRAS=
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/anomreason/bin/python
WORKDIR /source
# Without pip, which nobody needs later. torch in a layer of its own, which a change of our code does not make again.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/anomreason \
    && case ",$EXTRAS," in *,local,*) pip install torch --index-url "$TORCH_INDEX" ;; esac
COPY pyproject.toml README.md LICENSE ./
COPY src src
# pyproject.toml bounds the versions.
# hadolint ignore=DL3013
RUN pip install ".[serve,postgres${EXTRAS:+,$EXTRAS}]"

FROM python:${PYTHON}-slim
# Jobs, tokens and downloaded models live in /data, which is all that this user may write.
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home --no-log-init \
        --shell /usr/sbin/nologin anomreason \
    && install --directory --owner=anomreason --group=anomreason --mode=0700 /data
COPY --from=build /opt/anomreason /opt/anomreason
ENV PATH=/opt/anomreason/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8023
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8023/healthz', timeout=4)"]
# What follows the image's name in `docker run` is added to this. SIGTERM lets the calls in flight end.
ENTRYPOINT ["anomreason", "serve", "--host", "0.0.0.0", "--port", "8023", "--jobs", "/data/jobs", "--no-browser"]
CMD ["--help"]
