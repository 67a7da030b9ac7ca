# Hieros on a CPU, without an installation of one's own:
#
#   docker build -t hieros .
#   docker run --rm -it -v "$PWD/runs:/data/runs" hieros demo
#   docker run --rm -it -v "$PWD/runs:/data/runs" hieros train --env=atari/Krull
#
# What it writes belongs to the user 1000; --user="$(id -u):$(id -g)" with
# --env=HOME=/tmp makes it yours. Written with care and not yet built.

# Debian's own Python would be another one; Launchpad's wheels end at 3.10.
FROM python:3.10-slim-bookworm AS build
# The native sampler is compiled; the headers of Python are there. Debian keeps
# no older versions, which could be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends g++ make \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/hieros
COPY . .
ENV PIP_NO_CACHE_DIR=1
RUN make setup PYTHON=/usr/local/bin/python3.10

FROM python:3.10-slim-bookworm
# DM Control and Memory Maze draw by EGL.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends \
    libegl1 libegl-mesa0 libgl1-mesa-dri \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --uid 1000 --create-home hieros \
  && install --directory --owner=hieros /data /data/runs
# At the same path: .venv knows it, and the installation is of the checkout.
COPY --from=build /opt/hieros /opt/hieros
ENV PATH=/opt/hieros/.venv/bin:$PATH \
  PYTHONUNBUFFERED=1
USER 1000
WORKDIR /data
ENTRYPOINT ["hieros"]
CMD ["--help"]
