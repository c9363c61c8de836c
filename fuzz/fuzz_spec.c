/* fuzz_spec.c - parses hostile codec specs. What is accepted has a canonical form that means the same; what is refused
 * is explained, at a place inside the spec. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cutwire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *spec = malloc(size + 1);
    if (!spec)
        return 0;
    memcpy(spec, data, size);
    spec[size] = '\0';
    cw_codec *codec, *again;
    cw_error err;
    if (cw_codec_create(spec, &codec, &err) == CW_OK) {
        cw_status status = cw_codec_create(cw_codec_spec(codec), &again, &err);
        assert(status == CW_OK && strcmp(cw_codec_spec(codec), cw_codec_spec(again)) == 0);
        cw_codec_destroy(&again);
        cw_codec_destroy(&codec);
    } else {
        assert(!codec && err.status == CW_ERR_SPEC && *err.message && err.offset <= strlen(spec));
    }
    free(spec);
    return 0;
}
