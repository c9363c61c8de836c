#!/bin/sh
# interop.sh TENSOR_COPY - NumPy's own files, and safetensors written by an independent few lines of Python, through
# our loader and saver and back.
copy=$1
python=/usr/bin/python3
"$python" -c 'import numpy' 2>/dev/null || { echo "SKIP: $python has no numpy"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
exec "$python" - "$copy" "$dir" <<'PY'
import json, struct, subprocess, sys
import numpy as np
copy, dir = sys.argv[1:]
rng = np.random.default_rng(1)

def st_write(path, tensors, metadata, pad):
    head, at = {'__metadata__': metadata} if metadata else {}, 0
    for name, a in tensors.items():
        head[name] = {'dtype': DT[a.dtype.str], 'shape': list(a.shape), 'data_offsets': [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(head).encode() + b' ' * pad
    open(path, 'wb').write(struct.pack('<Q', len(text)) + text + b''.join(a.tobytes() for a in tensors.values()))

def st_read(path):
    raw = open(path, 'rb').read()
    n, = struct.unpack('<Q', raw[:8])
    head = json.loads(raw[8:8 + n])
    back = {v: k for k, v in DT.items()}
    data = raw[8 + n:]
    meta = head.pop('__metadata__', None)
    assert n % 8 == 0, 'the data is not aligned'
    return meta, {k: np.frombuffer(data[v['data_offsets'][0]:v['data_offsets'][1]], back[v['dtype']]).reshape(v['shape'])
                  for k, v in head.items()}

DT = {'<f4': 'F32', '<f2': 'F16', '|u1': 'U8', '<i4': 'I32', '<i8': 'I64'}
arrays = [rng.normal(size=s).astype(t) if np.dtype(t).kind == 'f' else rng.integers(0, 99, s).astype(t)
          for t in DT for s in [(), (0,), (7,), (2, 3), (1, 1, 5), (2, 1, 3, 4), (2,) * 8, (3, 0, 2)]]

for i, a in enumerate(arrays):
    for version in [(1, 0), (2, 0), (3, 0)]:
        with open(dir + '/a.npy', 'wb') as f:
            np.lib.format.write_array(f, a, version=version)
        subprocess.run([copy, dir + '/a.npy', dir + '/b.npy'], check=True)
        b = np.load(dir + '/b.npy')
        assert b.dtype == a.dtype and b.shape == a.shape and (b == a).all(), (a.dtype, a.shape, version)

for a in arrays:
    for b in [np.asfortranarray(a), a.astype(a.dtype.newbyteorder('>')), np.asfortranarray(a.astype(a.dtype.newbyteorder('>')))]:
        np.save(dir + '/a.npy', b)
        subprocess.run([copy, dir + '/a.npy', dir + '/b.npy'], check=True)
        c = np.load(dir + '/b.npy')
        assert c.dtype == a.dtype and c.shape == b.shape and c.flags.c_contiguous and (c == b).all(), (b.dtype, b.shape)

for bad in [np.zeros(3, 'f8'), np.zeros(3, 'c8'), np.zeros(3, [('x', '<f4')]), np.zeros((1,) * 9, '<f4')]:
    np.save(dir + '/a.npy', bad)
    r = subprocess.run([copy, dir + '/a.npy', dir + '/b.npy'], capture_output=True, text=True)
    assert r.returncode == 1 and 'a.npy: ' in r.stderr, (bad.dtype, r)

for pad in range(9):
    tensors = {'features.%d "q\\uote"\u00e9\U0001f600' % i: a for i, a in enumerate(arrays)}
    st_write(dir + '/a.safetensors', tensors, {'cutwire': '{"line": "1\\n2 \u00fc"}', 'format': 'pt'}, pad)
    subprocess.run([copy, dir + '/a.safetensors', dir + '/b.safetensors'], check=True)
    meta, back = st_read(dir + '/b.safetensors')
    assert meta == {'cutwire': '{"line": "1\\n2 \u00fc"}'}, meta
    assert list(back) == list(tensors)
    for k in tensors:
        assert back[k].dtype == tensors[k].dtype and back[k].shape == tensors[k].shape and (back[k] == tensors[k]).all()
print('%d arrays in 3 versions, 9 safetensors files: equal' % len(arrays))
PY
