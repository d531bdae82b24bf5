# demist: docker run -v BIDS:/data:ro -v OUT:/out demist /data /out participant
FROM debian:bookworm-slim

ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/demist

# torch, the largest part, changes least: a layer of its own
COPY constraints.txt /tmp/
RUN /opt/demist/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt torch

COPY setup.cfg pyproject.toml README.md LICENSE NOTICE /src/
COPY demist_app /src/demist_app
COPY bids_layout /src/bids_layout
COPY boilerplate /src/boilerplate
RUN /opt/demist/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt /src \
    && mkdir -m 1777 /home/demist

# HOME is writable by any user id; USER names ids without a passwd entry for getpass
ENV PATH=/opt/demist/bin:$PATH \
    HOME=/home/demist \
    USER=demist \
    IS_DOCKER_8395080871=1 \
    MPLBACKEND=Agg
LABEL org.opencontainers.image.title="demist" \
    org.opencontainers.image.description="Quantitative myelin maps from T1w and FLAIR" \
    org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["demist"]
