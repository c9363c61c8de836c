/* greeting.h - what a server that answers requests tells its clients: the blob of its WELCOME. Internal. */
#ifndef CWI_GREETING_H
#define CWI_GREETING_H

#include "config/classes.h"
#include "cutwire/codec.h"
#include "cutwire/infer.h"

/* The mode that WELCOME names, and what it requires a client to know. */
#define CWI_INFER_MODE    "infer"
#define CWI_INFER_FEATURE "requests"

enum {
    CWI_PROFILE_MAX = 4 << 20, /* characters */
    CWI_CREDIT_MAX = 256,
    CWI_REQUEST_MAX = 65536 /* samples */,
    CWI_OUTPUTS_MAX = 1 << 20
};

typedef struct cwi_greeting {
    char model[64];
    char uplink[192]; /* the codec that it proposes */
    int cut;
    cw_shape smashed;
    size_t outputs;
    uint64_t head_print, tail_print; /* 0: not known */
    size_t credit, max_samples;
    bool takes_short;    /* frames (wire/short_frame.h) */
    cwi_classes classes; /* none, or as many as outputs */
    cw_profile *profile; /* of maps at the cut; owned; NULL: none */
} cwi_greeting;

void cwi_greeting_free(cwi_greeting *g);
/* Owned by the caller, cwi_free. */
cw_status cwi_greeting_write(const cwi_greeting *g, uint8_t **blob, size_t *size, cw_error *err);
/* From anybody's bytes. CW_ERR_PROTOCOL, CW_ERR_UNSUPPORTED (it requires what is not known). On failure *g is zeroed.
 */
cw_status cwi_greeting_read(const uint8_t *blob, size_t size, cwi_greeting *g, cw_error *err);

/* What WELCOME and READY carry: of both sides' weights. */
uint64_t cwi_greeting_fingerprint(const cwi_greeting *g);
/* "resnet20 cut at 3 (weights 0123456789abcdef/...)" */
char *cwi_model_words(const char *model, int cut, uint64_t head_print, uint64_t tail_print, char *text, size_t size);

#endif
