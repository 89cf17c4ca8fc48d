# The image of the gateway and of all functions, for those who have a container engine:
#
#   docker build --tag REGISTRY/integr8s:VERSION .
#
# The tree in it is made by the program that makes the image for our tests without an engine. Only for
# x86-64. For the same bytes every time give DEBIAN by its digest.
ARG DEBIAN=debian:bookworm-slim

FROM ${DEBIAN} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        binutils ca-certificates gcc libc6-dev python3 python3-venv
WORKDIR /build
COPY requirements-bootstrap.lock requirements-dev.lock ./
RUN python3 -m venv /venv \
    && /venv/bin/python -m pip install --no-deps --only-binary :all: --require-hashes \
        --requirement requirements-bootstrap.lock \
    && /venv/bin/uv pip install --python /venv/bin/python --no-deps --require-hashes \
        --requirement requirements-dev.lock
COPY . .
RUN /venv/bin/python -m tests.engines.images tree / /image

FROM scratch
COPY --from=build /image /
ENV HOME=/tmp \
    LANG=C.UTF-8 \
    PATH=/usr/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/srv \
    PYTHONSAFEPATH=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["python3", "-m", "gateway"]
CMD ["gateway"]
