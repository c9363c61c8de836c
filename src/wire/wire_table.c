/* wire_table.c - the message types of version 2 of the protocol. docs/formats/protocol.md shows the same as byte
 * diagrams. */
#include "wire/wire_table.h"

#include "base/base.h"

/* Limits that no honest run reaches; they keep sums over all clients and batches far from overflow. */
#define SAMPLES_MAX (UINT64_C(1) << 40)
#define BATCH_MAX   (UINT64_C(1) << 24)
#define CLIENTS_MAX (UINT64_C(1) << 20)
#define TICKETS_MAX (UINT64_C(1) << 16)
#define FLOATS_MAX  (UINT64_C(1) << 30)
#define TOP_MAX     (UINT64_C(1) << 20)

#define MEMBER(name) offsetof(cw_msg, name), sizeof(((cw_msg *)0)->name)
#define UINT(name, width, min, max)                                                                                    \
    {                                                                                                                  \
#name, CWI_FIELD_UINT, width, MEMBER(name), min, max                                                           \
    }
#define REAL(name)                                                                                                     \
    {                                                                                                                  \
#name, CWI_FIELD_REAL, 8, MEMBER(name), 0, 0                                                                   \
    }
#define REAL_NONNEG(name)                                                                                              \
    {                                                                                                                  \
#name, CWI_FIELD_REAL_NONNEG, 8, MEMBER(name), 0, 0                                                            \
    }
#define LABEL_WIDTH                                                                                                    \
    {                                                                                                                  \
        "label_width", CWI_FIELD_LABEL_WIDTH, 4, MEMBER(label_width), 0, CW_TARGETS_TENSOR                             \
    }
#define PHASE   UINT(phase, 4, CW_PHASE_TRAIN, CW_PHASE_EVAL)
#define EPOCH   UINT(epoch, 4, 0, UINT32_MAX)
#define STEP    UINT(step, 4, 0, UINT32_MAX)
#define TICKET  UINT(ticket, 4, 0, TICKETS_MAX)
#define REQUEST UINT(request, 4, 0, UINT32_MAX)
#define TOP     UINT(top, 4, 0, TOP_MAX)

static const cwi_layout layouts[] = {
    [CW_MSG_HELLO] = {"HELLO",
                      false,
                      CWI_BLOB_NONE,
                      {UINT(version_min, 2, 1, UINT16_MAX), UINT(version_max, 2, 1, UINT16_MAX),
                       UINT(token, 8, 0, UINT64_MAX)}},
    [CW_MSG_WELCOME] = {"WELCOME",
                        false,
                        CWI_BLOB_BYTES,
                        {UINT(version_max, 4, CW_WIRE_VERSION_MIN, CW_WIRE_VERSION_MAX),
                         UINT(clients, 4, 1, CLIENTS_MAX), UINT(fingerprint, 8, 0, UINT64_MAX)}},
    [CW_MSG_READY] = {"READY",
                      false,
                      CWI_BLOB_MAYBE,
                      {UINT(fingerprint, 8, 0, UINT64_MAX), UINT(samples, 8, 0, SAMPLES_MAX),
                       UINT(test_samples, 8, 0, SAMPLES_MAX)}},
    [CW_MSG_STATE] = {"STATE", false, CWI_BLOB_BYTES, {{0}}},
    [CW_MSG_BEGIN] = {"BEGIN", false, CWI_BLOB_NONE, {PHASE, EPOCH, STEP, UINT(steps, 4, 0, UINT32_MAX)}},
    [CW_MSG_ACTIVATION] = {"ACTIVATION",
                           true,
                           CWI_BLOB_BYTES,
                           {PHASE, EPOCH, STEP, TICKET, UINT(samples, 4, 1, BATCH_MAX), LABEL_WIDTH}},
    [CW_MSG_GRADIENT] = {"GRADIENT",
                         false,
                         CWI_BLOB_BYTES,
                         {EPOCH, STEP, TICKET, REAL(loss), UINT(correct, 8, 0, SAMPLES_MAX)}},
    [CW_MSG_CLIENT_GRAD] = {"CLIENT_GRAD", false, CWI_BLOB_BYTES, {EPOCH, STEP, UINT(samples, 8, 0, SAMPLES_MAX)}},
    [CW_MSG_UPDATE] = {"UPDATE", false, CWI_BLOB_MAYBE, {EPOCH, STEP, REAL_NONNEG(lr)}},
    [CW_MSG_RESULT] = {"RESULT", false, CWI_BLOB_NONE, {EPOCH, STEP, REAL(loss), UINT(correct, 8, 0, SAMPLES_MAX)}},
    [CW_MSG_PHASE_DONE] = {"PHASE_DONE", false, CWI_BLOB_F32, {PHASE, EPOCH}},
    [CW_MSG_END] = {"END", false, CWI_BLOB_TEXT, {{0}}},
    [CW_MSG_LEAVE] = {"LEAVE", false, CWI_BLOB_TEXT, {UINT(status, 4, CW_OK, CW_END)}},
    [CW_MSG_ERROR] = {"ERROR", false, CWI_BLOB_TEXT, {UINT(status, 4, CW_ERR_INVALID, CW_END)}},
    [CW_MSG_PING] = {"PING", false, CWI_BLOB_NONE, {{0}}},
    [CW_MSG_PONG] = {"PONG", false, CWI_BLOB_NONE, {{0}}},
    [CW_MSG_JOIN] = {"JOIN",
                     false,
                     CWI_BLOB_MAYBE,
                     {UINT(fingerprint, 8, 0, UINT64_MAX), UINT(samples, 8, 0, SAMPLES_MAX),
                      UINT(test_samples, 8, 0, SAMPLES_MAX), UINT(weights, 8, 0, FLOATS_MAX),
                      UINT(buffers, 8, 0, FLOATS_MAX), UINT(batch, 4, 1, BATCH_MAX)}},
    [CW_MSG_GIVE_STATE] = {"GIVE_STATE", false, CWI_BLOB_F32, {EPOCH}},
    [CW_MSG_CLIENT_STATE] = {"CLIENT_STATE", false, CWI_BLOB_BYTES, {EPOCH}},
    [CW_MSG_REQUEST] = {"REQUEST", false, CWI_BLOB_BYTES, {REQUEST, UINT(samples, 4, 1, BATCH_MAX), TOP}},
    [CW_MSG_ANSWER] = {"ANSWER", false, CWI_BLOB_BYTES, {REQUEST, UINT(samples, 4, 1, BATCH_MAX), TOP}},
    [CW_MSG_TIMES] = {"TIMES", false, CWI_BLOB_NONE, {EPOCH, STEP, REAL_NONNEG(seconds)}},
    [CW_MSG_REFUSAL] = {"REFUSAL", false, CWI_BLOB_TEXT, {REQUEST, UINT(status, 4, CW_ERR_INVALID, CW_END)}},
};

const cwi_layout *cwi_wire_layout(unsigned type)
{
    return type < CWI_COUNT(layouts) && layouts[type].name ? &layouts[type] : NULL;
}

size_t cwi_wire_fields_size(const cwi_layout *layout)
{
    size_t size = 0;
    for (size_t i = 0; i < CWI_FIELDS_MAX && layout->fields[i].width; i++)
        size += layout->fields[i].width;
    return size;
}
