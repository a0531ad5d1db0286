#!/bin/sh
# sh client.sh photo.jpg [http://127.0.0.1:8000]: labels, a vector as a .npy file, and why, as an image
set -eu
image=$1
url=${2:-http://127.0.0.1:8000}
curl -fsS -F "images=@$image" "$url/v1/classify?top_k=3"
curl -fsS --data-binary "@$image" -H 'Content-Type: application/octet-stream' "$url/v1/embed?format=npy" -o vector.npy
curl -fsS --data-binary "@$image" -H 'Content-Type: application/octet-stream' "$url/v1/explain?format=png" -o why.png
