/* precision.c - names of precisions, and which one this CPU is made for. */
#include <string.h>

#include "nn/onednn.h"

static const char *const names[] = {
    [CW_PRECISION_FP32] = "fp32", [CW_PRECISION_BF16] = "bf16", [CW_PRECISION_AUTO] = "auto"};

const char *cw_precision_name(cw_precision precision)
{
    return (size_t)precision < CWI_COUNT(names) ? names[precision] : "?";
}

cw_status cw_precision_parse(const char *name, cw_precision *out, cw_error *err)
{
    if (!name || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_precision_parse: NULL argument");
    for (size_t i = 0; i < CWI_COUNT(names); i++) {
        if (strcmp(names[i], name) == 0) {
            *out = (cw_precision)i;
            return CW_OK;
        }
    }
    return cwi_fail(err, CW_ERR_SPEC, "precision '%.40s': unknown: known are fp32, bf16, auto", name);
}

static bool multiplies_bf16(void)
{
#if defined(__x86_64__)
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_bf16:
    case dnnl_cpu_isa_avx512_core_amx:
        return true;
    default:
        return false;
    }
#else
    return false;
#endif
}

cw_precision cwi_precision_resolve(cw_precision precision)
{
    if (precision == CW_PRECISION_AUTO)
        return multiplies_bf16() ? CW_PRECISION_BF16 : CW_PRECISION_FP32;
    return precision;
}
