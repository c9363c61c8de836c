/* fuzz_greeting.c - any bytes as what a server that answers requests says of itself: what is taken must be within its
 * bounds, and be given back so that it is taken again. */
#include <assert.h>

#include "base/base.h"
#include "infer/greeting.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const cwi_greeting *g)
{
    size_t count = 0;
    const cw_status shaped = cw_shape_count(&g->smashed, &count);
    assert(shaped == CW_OK && count > 0 && g->outputs > 0 && g->outputs <= CWI_OUTPUTS_MAX);
    assert(g->credit > 0 && g->credit <= CWI_CREDIT_MAX && g->max_samples > 0 && g->max_samples <= CWI_REQUEST_MAX);
    assert(!g->classes.count || g->classes.count == g->outputs);
    (void)shaped;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_greeting g, again;
    cw_error err = {.message = ""};
    uint8_t *blob;
    size_t written;
    if (cwi_greeting_read(data, size, &g, &err) != CW_OK) {
        assert(err.message[0]);
        return 0;
    }
    check(&g);
    if (cwi_greeting_write(&g, &blob, &written, &err) == CW_OK) {
        const cw_status status = cwi_greeting_read(blob, written, &again, &err);
        assert(status == CW_OK && cwi_greeting_fingerprint(&again) == cwi_greeting_fingerprint(&g));
        assert(!g.profile == !again.profile);
        assert(!g.profile || cw_profile_hash(g.profile) == cw_profile_hash(again.profile));
        (void)status;
        cwi_greeting_free(&again);
    }
    cwi_free(blob);
    cwi_greeting_free(&g);
    return 0;
}
