#!/bin/bash
# Prepare a folder in which tests/lite/test_aarch64.py can run MindSpore Lite's aarch64 wheel under qemu-user.
#
#     bash tests/lite/prepare_aarch64.sh FOLDER
#     MSEDGE_TEST_AARCH64=FOLDER python -m pytest tests/lite/test_aarch64.py
#
# Needs Debian or Ubuntu (apt-get, dpkg-deb), pip, and about 600 MB. Nothing is installed on the system: packages are
# downloaded through an apt state of their own and unpacked below FOLDER.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
python=${PYTHON:-python3}

apt="$folder/apt"
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/packages" "$folder/sysroot" "$folder/qemu"
options=(-o "Dir::State=$apt/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root
    -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Architectures::=amd64)
apt-get "${options[@]}" update -qq
version=$(apt-cache "${options[@]}" depends python3:arm64 | sed -n 's/.*Depends: \(python3\.[0-9]*\).*/\1/p' | head -1)
(
    cd "$apt/packages"
    apt-get "${options[@]}" download -qq qemu-user-static:amd64 "$version-minimal:arm64" "lib$version-minimal:arm64" \
        "lib$version-stdlib:arm64" libc6:arm64 libstdc++6:arm64 libgcc-s1:arm64 libexpat1:arm64 zlib1g:arm64 libffi8:arm64
    for package in *_arm64.deb; do dpkg-deb -x "$package" "$folder/sysroot"; done
    dpkg-deb -x qemu-user-static_*.deb "$folder/qemu"
)
rm -rf "$apt"

"$python" -m pip download -q mindspore-lite==2.0.0 --no-deps --only-binary=:all: --python-version 3.7 --implementation cp \
    --abi none --platform any --dest "$folder"
wheel=$(echo "$folder"/mindspore_lite-2.0.0-*.whl)
echo "9006b56a0285833802b4880f34cbce5f94111ef5ca4071d5df5c61e8c2a3a6f7  $wheel" | sha256sum --check --quiet
"$python" -m zipfile -e "$wheel" "$folder"

cat > "$folder/python" <<END
#!/bin/bash
exec "$folder/qemu/usr/bin/qemu-aarch64-static" -L "$folder/sysroot" "$folder/sysroot/usr/bin/$version" "\$@"
END
chmod +x "$folder/python"
echo "ready: MSEDGE_TEST_AARCH64=$folder"
