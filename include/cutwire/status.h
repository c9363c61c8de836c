/* cutwire/status.h - every function's outcome, and the sentence that explains a failure.
 *
 * Convention of the whole library: a function that can fail returns cw_status and gives its
 * results by out-parameter. Functions that read specs, files, frames or payloads also take a
 * `cw_error *err` (NULL allowed) and fill it on failure with a sentence and, for parsers, the byte
 * offset of what is wrong. The library never prints and never exits.
 *
 * Thread-safety: everything here is a pure function.
 */
#ifndef CUTWIRE_STATUS_H
#define CUTWIRE_STATUS_H

#include <stdint.h>

#include "cutwire/version.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CW_STATUS_MAP(X)                                                                                               \
    X(OK, 0, "success")                                                                                                \
    X(ERR_INVALID, 1, "invalid argument")                                                                              \
    X(ERR_NO_MEMORY, 2, "out of memory")                                                                               \
    X(ERR_SPEC, 3, "malformed or unknown specification string")                                                        \
    X(ERR_NONFINITE, 4, "input holds NaN or infinity")                                                                 \
    X(ERR_TOO_SMALL, 5, "output buffer too small")                                                                     \
    X(ERR_TRUNCATED, 6, "data ends too early")                                                                         \
    X(ERR_MAGIC, 7, "not data of this format")                                                                         \
    X(ERR_VERSION, 8, "format or protocol version not supported")                                                      \
    X(ERR_CHECKSUM, 9, "checksum mismatch, data is damaged")                                                           \
    X(ERR_CORRUPT, 10, "data contradicts itself")                                                                      \
    X(ERR_UNSUPPORTED, 11, "not supported")                                                                            \
    X(ERR_IO, 12, "input/output error")                                                                                \
    X(ERR_NOT_FOUND, 13, "not found")                                                                                  \
    X(ERR_MISMATCH, 14, "does not match what was expected")                                                            \
    X(ERR_PROTOCOL, 15, "peer broke the protocol")                                                                     \
    X(ERR_TIMEOUT, 16, "timed out")                                                                                    \
    X(ERR_CLOSED, 17, "connection closed")                                                                             \
    X(ERR_CANCELLED, 18, "cancelled")                                                                                  \
    X(ERR_DIVERGED, 19, "training diverged")                                                                           \
    X(ERR_BACKEND, 20, "a library underneath failed")                                                                  \
    X(END, 21, "no more items")

typedef enum cw_status {
#define CW_STATUS_ENUM(name, value, text) CW_##name = value,
    CW_STATUS_MAP(CW_STATUS_ENUM)
#undef CW_STATUS_ENUM
} cw_status;

/* `offset` when it has no meaning for the failure at hand. */
#define CW_NO_OFFSET UINT64_MAX

/* What went wrong, for a person. Plain data: no ownership, copy freely. */
typedef struct cw_error {
    cw_status status;
    uint64_t offset;    /* byte (parsers) or element (encoders) at fault, or CW_NO_OFFSET */
    char message[1024]; /* one sentence, no final period, always terminated; a list in it is whole */
} cw_error;

/* The symbol ("CW_ERR_SPEC") and the general meaning of a status. Static storage, never NULL. */
const char *cw_status_name(cw_status status);
const char *cw_status_message(cw_status status);

#ifdef __cplusplus
}
#endif
#endif
