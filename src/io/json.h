/* json.h - a strict reader for the little JSON that a safetensors header is made of. Internal.
 *
 * The device library may depend on nothing, hence no JSON package here. Every function moves the cursor past what it
 * took, or fails with CW_ERR_CORRUPT and the byte offset. There is no recursion: the grammar's depth is fixed.
 */
#ifndef CWI_JSON_H
#define CWI_JSON_H

#include "base/base.h"

typedef struct cwi_json {
    const uint8_t *base; /* offsets in errors count from here */
    const uint8_t *p, *end;
    cw_error *err;
} cwi_json;

cw_status cwi_json_fail(const cwi_json *j, const char *what);
/* Takes the character, after white space, if it is next. */
bool cwi_json_take(cwi_json *j, char ch);
/* Like take, but fails when it is not next. */
cw_status cwi_json_expect(cwi_json *j, char ch);
/* After an element of an array or object: *more says whether another follows (','), or `close` was taken. */
cw_status cwi_json_more(cwi_json *j, char close, bool *more);
/* An upper bound of the bytes (terminator included) that the string that is next decodes to. */
size_t cwi_json_string_bound(const cwi_json *j);
/* A string, unescaped, as terminated UTF-8; embedded NULs and invalid UTF-8 are refused. out == NULL: skipped. */
cw_status cwi_json_string(cwi_json *j, char *out, size_t size);
/* A non-negative integer below 2^63. */
cw_status cwi_json_int(cwi_json *j, int64_t *out);
/* Only white space (or nothing) may be left. */
cw_status cwi_json_end(cwi_json *j);

/* Bytes that `s` takes between quotes when written, and the writing; control characters, quote and backslash are
 * escaped. Returns one past the last byte written. */
size_t cwi_json_escaped_size(const char *s);
char *cwi_json_escape(char *out, const char *s);

#endif
