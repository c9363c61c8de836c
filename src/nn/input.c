/* input.c - what the floats of a sample are: "image", "tokens:V", or "table:N/C1/C2/...". */
#include <stdlib.h>
#include <string.h>

#include "nn/graph.h"

static bool parse_count(const char **text, int64_t low, int64_t high, int64_t *out)
{
    char *end;
    *out = strtoll(*text, &end, 10);
    bool good = end != *text && *out >= low && *out <= high;
    *text = end;
    return good;
}

static bool parse_table(const char *text, cwi_input *in)
{
    int64_t numeric, categories;
    if (!parse_count(&text, 0, 1 << 16, &numeric))
        return false;
    in->kind = CWI_TABLE;
    in->numeric = (int)numeric;
    while (*text == '/') {
        text++;
        if (in->field_count == CWI_MAX_FIELDS || !parse_count(&text, 1, 1 << 24, &categories))
            return false;
        in->fields[in->field_count++] = (int32_t)categories;
    }
    return *text == '\0' && in->numeric + in->field_count > 0;
}

cw_status cwi_input_parse(const char *text, cwi_input *out, cw_error *err)
{
    cwi_input in = {.kind = CWI_IMAGE};
    bool good = true;
    if (text && strncmp(text, "tokens:", 7) == 0) {
        const char *number = text + 7;
        int64_t vocabulary = 0;
        in.kind = CWI_TOKENS;
        good = parse_count(&number, 2, 1 << 24, &vocabulary) && *number == '\0';
        in.vocabulary = (int32_t)vocabulary;
    } else if (text && strncmp(text, "table:", 6) == 0) {
        good = parse_table(text + 6, &in);
    } else {
        good = !text || !*text || strcmp(text, "image") == 0;
    }
    if (!good)
        return cwi_fail(err, CW_ERR_SPEC,
                        "input '%.60s': give image, tokens:V, or table:N/C1/C2/... (at most %d categories)", text,
                        CWI_MAX_FIELDS);
    *out = in;
    return CW_OK;
}

const char *cwi_input_name(const cwi_input *input)
{
    static const char *const names[] = {[CWI_IMAGE] = "image", [CWI_TOKENS] = "tokens", [CWI_TABLE] = "table"};
    return names[input->kind];
}
