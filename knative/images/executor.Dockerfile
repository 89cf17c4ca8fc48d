# The image that scripts of one language run in, for those who keep images in a registry of their own.
# BASE is the usual image of the language and version, as shared/domain/runtimes.py names it:
#
#   docker build --file knative/images/executor.Dockerfile --build-arg BASE=python:3.11-slim \
#       --tag REGISTRY/integr8s-executor-python:3.11 knative/images
#
# It adds little: the usual images do as they are. INTEGR8S_RUNTIME_IMAGES says which are used.
ARG BASE=python:3.11-slim

FROM ${BASE}
USER 0
# Nobody in it becomes somebody else, and whoever a script runs as has a name.
RUN find / -xdev -type f \( -perm -4000 -o -perm -2000 \) -exec chmod a-s {} + \
    && echo 'sandbox:x:1000:1000:sandbox:/tmp:/bin/sh' >> /etc/passwd \
    && echo 'sandbox:x:1000:' >> /etc/group
USER 1000:1000
ENTRYPOINT []
