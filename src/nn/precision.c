/* precision.c - names of precisions, and what this CPU makes of them. */
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

typedef enum support { ABSENT, EMULATED, NATIVE } support;

/* What oneDNN does with bf16 on this CPU: from AVX-512 on it converts to fp32 and back where the CPU has no
 * instructions for it; on lesser ones, and on others than x86-64, it has no primitives. */
static support bf16_support(void)
{
#if defined(__x86_64__)
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_bf16:
    case dnnl_cpu_isa_avx512_core_amx:
        return NATIVE;
    case dnnl_cpu_isa_avx512_core:
    case dnnl_cpu_isa_avx512_core_vnni:
        return EMULATED;
    default:
        return ABSENT;
    }
#else
    return ABSENT;
#endif
}

cw_status cw_precision_resolve(cw_precision asked, cw_precision *out, cw_error *err)
{
    if (asked == CW_PRECISION_AUTO)
        asked = bf16_support() == NATIVE ? CW_PRECISION_BF16 : CW_PRECISION_FP32;
    if (asked == CW_PRECISION_BF16 && bf16_support() == ABSENT)
        return cwi_fail(err, CW_ERR_UNSUPPORTED,
                        "precision bf16: this processor lacks AVX-512, without which the engine has no bf16: the "
                        "run's --precision must be fp32, or auto");
    *out = asked;
    return CW_OK;
}

bool cw_precision_is_emulated(cw_precision precision)
{
    return precision == CW_PRECISION_BF16 && bf16_support() == EMULATED;
}
