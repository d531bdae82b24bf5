# demist: docker run -v BIDS:/data:ro -v OUT:/out demist /data /out participant -w /out/.work
#
# docker build -t demist .
# The image is for NVIDIA GPUs and processors alike. Give an index of PyTorch's CPU-only wheels with
# --build-arg PIP_EXTRA_INDEX_URL=... (or a folder of them with PIP_FIND_LINKS) and it is gigabytes
# smaller.

FROM debian:bookworm-slim AS python
# security fixes of the day are wanted: no versions
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

FROM python AS requirements
COPY setup.cfg /tmp/
RUN python3 -c "import configparser; c = configparser.ConfigParser(); c.read('/tmp/setup.cfg'); print(c['options']['install_requires'].strip())" \
    >/requirements.txt

# torch, the largest part, changes least. What only developers need of it goes.
FROM python AS torch
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/demist
ENV PATH=/opt/pip/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_PYTHON=/opt/demist/bin/python
COPY constraints.txt /
RUN pip install --constraint /constraints.txt torch \
    && find /opt/demist -depth '(' -type d -name tests -o -path '*/torch/include' \
        -o -path '*/torch/test' -o -path '*/torch/bin/*[tT]est*' -o -path '*/torch/bin/protoc*' ')' \
        -exec rm -r {} +

# The other dependencies, in a tree of their own: they become a layer of their own
FROM torch AS dependencies
COPY --from=requirements /requirements.txt /
RUN pip install --root /tree --prefix /opt/demist --constraint /constraints.txt \
        --requirement /requirements.txt \
    && find /tree -depth -type d -name tests -exec rm -r {} +

FROM torch AS package
COPY setup.cfg pyproject.toml README.md LICENSE NOTICE /src/
COPY demist_app /src/demist_app
COPY bids_layout /src/bids_layout
COPY boilerplate /src/boilerplate
RUN pip install --root /tree --prefix /opt/demist --no-deps /src

FROM python
COPY --from=torch /opt/demist /opt/demist
COPY --from=dependencies /tree/opt/demist /opt/demist
COPY --from=package /tree/opt/demist /opt/demist
COPY LICENSE NOTICE /usr/share/doc/demist/
RUN mkdir -m 1777 /home/demist

# HOME is writable by any user id; USER names ids without a passwd entry for getpass. demist sets
# the threads of a step itself (--omp-nthreads); its other commands start one process per processor.
ENV PATH=/opt/demist/bin:$PATH \
    HOME=/home/demist \
    USER=demist \
    IS_DOCKER_8395080871=1 \
    MPLBACKEND=Agg \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1
# ./work is where intermediate files go without -w, and any user id can make it here
WORKDIR /tmp

ARG VERSION=0.1.0
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="demist" \
    org.opencontainers.image.description="Quantitative myelin maps from T1w and FLAIR" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.source="$SOURCE"
ENTRYPOINT ["demist"]
