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
    size_t i;
    CWI_TRY(cwi_name_find("precision", out ? name : NULL, names, CWI_COUNT(names), &i, err));
    *out = (cw_precision)i;
    return CW_OK;
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
