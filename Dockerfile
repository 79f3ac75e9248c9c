# The studio in a container: docker compose up
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
# The address of PyTorch's CPU index spares several GB: --build-arg TORCH_INDEX=...
ARG TORCH_INDEX=
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY examples ./examples
COPY src ./src
RUN pip install ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} "$(grep '^torch==' constraints.txt)" \
    && pip install -c constraints.txt ".[studio,nsfw,weights]" \
    && useradd --create-home studio && mkdir /state && chown studio /state
USER studio
VOLUME /state
EXPOSE 8188
HEALTHCHECK --start-period=60s CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8188/readyz')"
# Seen from outside the container, so it needs keys: one a line in /run/secrets/studio_keys.
ENTRYPOINT ["humansd", "studio", "--host", "0.0.0.0", "--state", "/state", "--api-key-file", "/run/secrets/studio_keys"]
