/* fast.c - cutwire._fast: encode and decode of contiguous fp32 arrays of numpy, from Python in one call.
 *
 * It takes the common case alone, and gives None for everything else, whatever fails included. _codec.py does the rest,
 * and makes the exceptions: it would do all without this module, at some microseconds more a call.
 *
 * Python's limited API of 3.11, so that one build serves that version and all after it. The codec library is loaded by
 * _lib.py before: no search path for it is in here.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cutwire/codec.h"

enum {
    ALIGNMENT = 64,        /* as the kernels like their scratch */
    KEPT = 64 << 20,       /* bytes; what is larger is given back after the call */
    DENSE = 16 << 10,      /* payloads above may be encoded straight into the bytes that are returned */
    MOST_THREADS = 0x7fff, /* as in _codec.py */
    HEAD = 12,             /* of a payload: bytes that tell codecs and versions apart */
};

/* ---- memory that a thread keeps between calls ---- */

typedef struct room {
    uint8_t *bytes;
    size_t size;
} room;

/* What cw_codec_bound and cw_codec_work_size say of a tensor, which for `ec` takes longer than all else here. */
typedef struct sizes {
    unsigned long long serial; /* of the codec; 0: none */
    cw_shape shape;
    size_t bound, work;
} sizes;

typedef struct kept {
    room payload, work, scratch;
    sizes sizes;        /* of the tensor before */
    size_t size;        /* of the last payload that was encoded */
    bool same;          /* the one before it was as large */
    uint8_t head[HEAD]; /* of the last payload that was decoded, and its shape: `scratch` suffices for such ones */
    cw_shape shape;
} kept;

static pthread_key_t of_thread;
static PyObject *ndarray; /* numpy's type */

static void empty(room *r)
{
    free(r->bytes);
    *r = (room){0};
}

static void free_kept(void *memory)
{
    kept *k = memory;
    empty(&k->payload);
    empty(&k->work);
    empty(&k->scratch);
    free(k);
}

static kept *find_kept(void)
{
    kept *k = pthread_getspecific(of_thread);
    if (k || !(k = calloc(1, sizeof *k)))
        return k;
    if (!pthread_setspecific(of_thread, k))
        return k;
    free(k);
    return NULL;
}

/* At least `size` bytes, or none. */
static uint8_t *grow(room *r, size_t size)
{
    if (r->size >= size)
        return r->bytes;
    empty(r);
    const size_t rounded = (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    r->bytes = aligned_alloc(ALIGNMENT, rounded);
    r->size = r->bytes ? rounded : 0;
    return r->bytes;
}

/* ---- arguments ---- */

/* Whether x is an array that is taken here. Then *view holds it, until it is released. */
static bool view_array(PyObject *x, int flags, Py_buffer *view, cw_tensor *tensor)
{
    if ((PyObject *)Py_TYPE(x) != ndarray)
        return false;
    if (PyObject_GetBuffer(x, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags)) {
        PyErr_Clear();
        return false;
    }
    if (strcmp(view->format, "f") != 0 || view->ndim > CW_MAX_DIMS) {
        PyBuffer_Release(view);
        return false;
    }
    *tensor = (cw_tensor){.dtype = CW_F32, .data = view->buf};
    tensor->shape.ndim = view->ndim;
    for (int i = 0; i < view->ndim; i++)
        tensor->shape.dim[i] = view->shape[i];
    return true;
}

static bool take_number(PyObject *x, unsigned long long most, unsigned long long *number)
{
    if (!PyLong_CheckExact(x))
        return false;
    *number = PyLong_AsUnsignedLongLong(x);
    if (!PyErr_Occurred())
        return *number <= most;
    PyErr_Clear();
    return false;
}

/* ---- encode ---- */

typedef struct encoding {
    const cw_codec *codec;
    unsigned long long serial;
    cw_tensor x;
    cw_encode_args args;
    size_t bound, size;
} encoding;

static bool take_encoding(encoding *e, PyObject *const *args)
{
    unsigned long long seed, threads;
    if (!take_number(args[1], UINT64_MAX, &e->serial) || !take_number(args[4], UINT64_MAX, &seed) ||
        !take_number(args[5], MOST_THREADS, &threads) || (args[6] != Py_True && args[6] != Py_False))
        return false;
    e->codec = PyLong_AsVoidPtr(args[0]);
    e->args = (cw_encode_args){.seed = seed, .threads = (int)threads, .evaluate = args[6] == Py_True};
    return e->codec != NULL;
}

static const sizes *find_sizes(kept *k, const encoding *e)
{
    sizes *s = &k->sizes;
    if (s->serial != e->serial || !cw_shape_equal(&s->shape, &e->x.shape))
        *s = (sizes){.serial = e->serial,
                     .shape = e->x.shape,
                     .bound = cw_codec_bound(e->codec, &e->x),
                     .work = cw_codec_work_size(e->codec, &e->x)};
    return s;
}

/* More scratch than KEPT is left to the library, which gives it back itself. */
static void set_work(kept *k, encoding *e)
{
    const sizes *s = find_sizes(k, e);
    const size_t threads = e->args.threads > 1 ? (size_t)e->args.threads : 1;
    e->bound = s->bound;
    if (s->work && s->work <= KEPT / threads && grow(&k->work, s->work * threads)) {
        e->args.work = k->work.bytes;
        e->args.work_size = k->work.size;
    }
}

static bool run_encoding(encoding *e, void *dst, size_t capacity)
{
    PyThreadState *thread = PyEval_SaveThread();
    const cw_status status = cw_encode(e->codec, &e->x, &e->args, dst, capacity, &e->size, NULL);
    PyEval_RestoreThread(thread);
    return status == CW_OK;
}

/* Into a buffer that is kept, and from there; it is the fewest bytes touched where payloads are short. */
static PyObject *encode_and_copy(kept *k, encoding *e)
{
    PyObject *bytes = NULL;
    if (grow(&k->payload, e->bound) && run_encoding(e, k->payload.bytes, e->bound))
        bytes = PyBytes_FromStringAndSize((const char *)k->payload.bytes, (Py_ssize_t)e->size);
    if (k->payload.size > KEPT)
        empty(&k->payload);
    return bytes;
}

/* Straight into the bytes that are returned, where a payload of a known size fits. */
static PyObject *encode_in_place(encoding *e, size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes && run_encoding(e, PyBytes_AsString(bytes), size) && e->size == size)
        return bytes;
    Py_XDECREF(bytes);
    PyErr_Clear();
    return NULL;
}

/* Payloads of always the same size, not much shorter than the tensor, need no copy: those of `none` and `fp16`. */
static PyObject *encode_bytes(kept *k, encoding *e)
{
    const size_t last = k->same ? k->size : 0;
    PyObject *bytes = last > DENSE && last > e->bound / 2 && last <= e->bound ? encode_in_place(e, last) : NULL;
    if (!bytes)
        bytes = encode_and_copy(k, e);
    k->same = bytes && e->size == k->size;
    k->size = e->size;
    return bytes;
}

/* The first `size` bytes of what `whole` shows. */
static PyObject *cut_view(PyObject *whole, const Py_buffer *view, size_t size)
{
    const bool plain = view->ndim == 1 && view->format && !strcmp(view->format, "B");
    PyObject *flat = plain ? Py_NewRef(whole) : PyObject_CallMethod(whole, "cast", "s", "B");
    PyObject *part = flat ? PySequence_GetSlice(flat, 0, (Py_ssize_t)size) : NULL;
    Py_XDECREF(flat);
    return part;
}

static PyObject *encode_into(encoding *e, PyObject *out)
{
    PyObject *whole = PyMemoryView_FromObject(out), *part = NULL;
    Py_buffer view;
    if (!whole)
        return NULL;
    if (!PyObject_GetBuffer(whole, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE)) {
        if (run_encoding(e, view.buf, (size_t)view.len))
            part = cut_view(whole, &view, e->size);
        PyBuffer_Release(&view);
    }
    Py_DECREF(whole);
    return part;
}

/* What has failed is done again by _codec.py, which tells why. */
static PyObject *found_or_none(PyObject *found)
{
    if (found)
        return found;
    PyErr_Clear();
    Py_RETURN_NONE;
}

/* encode(codec's address, its serial number, x, out or None, seed, threads, evaluate) -> bytes, the filled part of out,
 * or None */
static PyObject *encode(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    encoding e;
    Py_buffer view;
    if (count != 7 || !take_encoding(&e, args) || !view_array(args[2], 0, &view, &e.x))
        return found_or_none(NULL);
    PyObject *found = NULL;
    kept *k = find_kept();
    if (k) {
        set_work(k, &e);
        found = args[3] == Py_None ? encode_bytes(k, &e) : encode_into(&e, args[3]);
    }
    PyBuffer_Release(&view);
    return found_or_none(found);
}

/* ---- decode ---- */

/* Grows the scratch for payloads like this one, from the second of them on. */
static void learn_scratch(kept *k, const Py_buffer *blob, const cw_tensor *out)
{
    cw_payload_info info;
    if (blob->len < HEAD || cw_payload_inspect(blob->buf, (size_t)blob->len, &info, NULL) != CW_OK)
        return;
    const size_t size = cw_decode_work_size(&info);
    if (size && size <= KEPT)
        (void)grow(&k->scratch, size);
    memcpy(k->head, blob->buf, HEAD);
    k->shape = out->shape;
}

static bool is_like_last(const kept *k, const Py_buffer *blob, const cw_tensor *out)
{
    return blob->len >= HEAD && !memcmp(k->head, blob->buf, HEAD) && cw_shape_equal(&k->shape, &out->shape);
}

static bool run_decoding(kept *k, const Py_buffer *blob, cw_tensor *out, int threads)
{
    if (!is_like_last(k, blob, out))
        learn_scratch(k, blob, out);
    const cw_decode_args args = {.threads = threads, .work = k->scratch.bytes, .work_size = k->scratch.size};
    PyThreadState *thread = PyEval_SaveThread();
    const cw_status status = cw_decode(blob->buf, (size_t)blob->len, out, &args, NULL);
    PyEval_RestoreThread(thread);
    return status == CW_OK;
}

/* decode(blob, out, threads) -> out, or None */
static PyObject *decode(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    Py_buffer blob, view;
    cw_tensor out;
    unsigned long long threads;
    if (count != 3 || !take_number(args[2], MOST_THREADS, &threads) ||
        !view_array(args[1], PyBUF_WRITABLE, &view, &out))
        return found_or_none(NULL);
    bool done = false;
    kept *k = find_kept();
    if (k && !PyObject_GetBuffer(args[0], &blob, PyBUF_SIMPLE)) {
        done = run_decoding(k, &blob, &out, (int)threads);
        PyBuffer_Release(&blob);
    }
    PyBuffer_Release(&view);
    return found_or_none(done ? Py_NewRef(args[1]) : NULL);
}

/* ---- the module ---- */

static int execute(PyObject *module)
{
    (void)module;
    PyObject *numpy = PyImport_ImportModule("numpy");
    ndarray = numpy ? PyObject_GetAttrString(numpy, "ndarray") : NULL;
    Py_XDECREF(numpy);
    if (!ndarray)
        return -1;
    if (!pthread_key_create(&of_thread, free_kept))
        return 0;
    PyErr_SetString(PyExc_ImportError, "cutwire: no room for a thread's memory (pthread_key_create)");
    return -1;
}

PyMODINIT_FUNC PyInit__fast(void);

PyMODINIT_FUNC PyInit__fast(void)
{
    static PyMethodDef functions[] = {
        {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL, "A payload of an array, or None."},
        {"decode", (PyCFunction)(void (*)(void))decode, METH_FASTCALL, "The filled array, or None."},
        {NULL, NULL, 0, NULL},
    };
    static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};
    static PyModuleDef definition = {.m_base = PyModuleDef_HEAD_INIT,
                                     .m_name = "cutwire._fast",
                                     .m_size = 0,
                                     .m_methods = functions,
                                     .m_slots = slots};
    return PyModuleDef_Init(&definition);
}
