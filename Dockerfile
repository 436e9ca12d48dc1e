ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-${DEBIAN} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Kernels for aarch64 have pages of 4, 16 or 64 KiB; jemalloc takes up to what it was built for.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && cargo build --release --locked \
        --package gateway --bin fairway-gateway \
        --package operator --bin fairway-operator \
        --package server-everything --bin server-everything \
        --package server-filesystem --bin server-filesystem \
        --package server-sql --bin server-sql \
    && install -D --target-directory=/programs \
        target/release/fairway-gateway \
        target/release/fairway-operator \
        target/release/server-everything \
        target/release/server-filesystem \
        target/release/server-sql
RUN ldd /programs/* | grep --only-matching '/[^ ]*\.so[^ ]*' | sort --unique > /libraries \
    && while read -r library; do install -D "$library" "/system$library"; done < /libraries \
    && install -D --mode=0644 --target-directory=/system/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    && echo 'root:x:0:0:root:/:/' > /system/etc/passwd \
    && echo 'nonroot:x:65532:65532:nonroot:/:/' >> /system/etc/passwd \
    && echo 'root:x:0:' > /system/etc/group \
    && echo 'nonroot:x:65532:' >> /system/etc/group \
    && echo 'hosts: files dns' > /system/etc/nsswitch.conf \
    && install --directory --mode=1777 /system/tmp

FROM scratch AS system
COPY --from=build /system /
ENV PATH=/usr/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
WORKDIR /

FROM system AS server-everything
COPY --from=build /programs/server-everything /usr/bin/
EXPOSE 8000
ENTRYPOINT ["/usr/bin/server-everything"]

FROM system AS server-filesystem
COPY --from=build /programs/server-filesystem /usr/bin/
EXPOSE 8000
ENTRYPOINT ["/usr/bin/server-filesystem"]

FROM system AS server-sql
COPY --from=build /programs/server-sql /usr/bin/
EXPOSE 8000
ENTRYPOINT ["/usr/bin/server-sql"]

FROM system AS operator
COPY --from=build /programs/fairway-operator /usr/bin/
EXPOSE 9090
ENTRYPOINT ["/usr/bin/fairway-operator"]

FROM system AS gateway
COPY --from=build /programs/fairway-gateway /usr/bin/
EXPOSE 8080 9090
ENTRYPOINT ["/usr/bin/fairway-gateway"]
