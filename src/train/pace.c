/* pace.c - `auto`: coarse activations first, fine ones last.
 *
 * The error falls geometrically, err(p) = from (to / from)^p: since ec's bits an element grow about linearly with
 * -log(err), such a run sends as many bytes as one at the constant error sqrt(from to), but spends them where the rate
 * is low and errors stay in the weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/pace.h"

static const double default_from = 0.6, default_to = 0.2, most = 0.95, least = 0.001;

static cw_status bad(const char *what, int length, cw_error *err)
{
    return cwi_fail(err, CW_ERR_SPEC,
                    "auto: '%.*s' is neither accuracy nor from=ERROR nor to=ERROR with an error from %g to %g", length,
                    what, least, most);
}

/* "accuracy", the only target, may come first; then "from=E" or "to=E" or both. Commas between. */
static cw_status parse(const char *text, cwi_pace *pace, cw_error *err)
{
    static const char target[] = "accuracy";
    const size_t named = strlen(target);
    if (strncmp(text, target, named) == 0 && (text[named] == ',' || text[named] == '\0'))
        text += named + (text[named] == ',');
    while (*text) {
        const int length = (int)strcspn(text, ",");
        char item[64], *end;
        snprintf(item, sizeof item, "%.*s", length, text);
        const char *value = strchr(item, '=');
        const double number = value ? strtod(value + 1, &end) : 0;
        if (!value || end == value + 1 || *end || !(number >= least && number <= most))
            return bad(text, length, err);
        if (strncmp(item, "from=", 5) == 0)
            pace->from = number;
        else if (strncmp(item, "to=", 3) == 0)
            pace->to = number;
        else
            return bad(text, length, err);
        text += length + (text[length] == ',');
    }
    return CW_OK;
}

cw_status cwi_pace_open(const char *spec, cwi_pace *pace, cw_error *err)
{
    memset(pace, 0, sizeof *pace);
    const bool is_auto = strncmp(spec, "auto", 4) == 0 && (spec[4] == '\0' || spec[4] == ':');
    if (!is_auto)
        return cw_codec_create(spec, &pace->codec, err);
    pace->from = default_from;
    pace->to = default_to;
    CWI_TRY(parse(spec + 4 + (spec[4] == ':'), pace, err));
    const cw_codec *first;
    return cwi_pace_at(pace, 0, &first, err);
}

void cwi_pace_close(cwi_pace *pace)
{
    cw_codec_destroy(&pace->codec);
}

cw_status cwi_pace_at(cwi_pace *pace, double progress, const cw_codec **codec, cw_error *err)
{
    if (pace->from > 0) {
        char spec[64];
        const double error = pace->from * pow(pace->to / pace->from, fmin(fmax(progress, 0), 1));
        snprintf(spec, sizeof spec, "ec:err=0.%04ld", lround(error * 1e4)); /* whatever the locale's decimal point */
        cw_codec_destroy(&pace->codec);
        CWI_TRY(cw_codec_create(spec, &pace->codec, err));
    }
    *codec = pace->codec;
    return CW_OK;
}
