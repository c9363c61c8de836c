/* wire_table.h - what each message type is made of: the one table behind encoding, decoding and sizes. Internal. */
#ifndef CWI_WIRE_TABLE_H
#define CWI_WIRE_TABLE_H

#include <stdbool.h>

#include "cutwire/wire.h"

typedef enum cwi_field_kind {
    CWI_FIELD_UINT,
    CWI_FIELD_REAL,        /* a finite double */
    CWI_FIELD_REAL_NONNEG, /* a finite double, not below zero */
    CWI_FIELD_LABEL_WIDTH, /* 1, 2, 4 or a tensor's: known from the labels, not taken from the member */
} cwi_field_kind;

typedef struct cwi_field {
    const char *name;
    cwi_field_kind kind;
    unsigned width;     /* bytes in the frame */
    size_t member;      /* where it lies in cw_msg, */
    size_t member_size; /* and how large it is there */
    uint64_t min, max;  /* of CWI_FIELD_UINT, both included */
} cwi_field;

typedef enum cwi_blob_kind {
    CWI_BLOB_NONE,
    CWI_BLOB_BYTES, /* at least one */
    CWI_BLOB_MAYBE, /* any number of bytes */
    CWI_BLOB_F32,   /* whole floats, maybe none */
    CWI_BLOB_TEXT,  /* at most CWI_TEXT_MAX bytes without control characters, maybe none */
} cwi_blob_kind;

enum { CWI_TEXT_MAX = 4096, CWI_FIELDS_MAX = 6 };

typedef struct cwi_layout {
    const char *name;
    bool has_labels;
    cwi_blob_kind blob;
    cwi_field fields[CWI_FIELDS_MAX]; /* in the order of the frame; a zero width ends them */
} cwi_layout;

/* NULL for a type that does not exist. */
const cwi_layout *cwi_wire_layout(unsigned type);

/* Bytes of all fields of a message type. */
size_t cwi_wire_fields_size(const cwi_layout *layout);

/* cw_msg_decode of a frame that it has decoded before: the checksum is not computed again. */
cw_status cwi_msg_decode_again(const void *src, size_t size, cw_msg *msg, cw_error *err);

#endif
