/* status.c - status texts, and the functions that fill a cw_error. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

const char *cw_status_name(cw_status status)
{
    switch (status) {
#define NAME_CASE(name, value, text)                                                                                   \
    case CW_##name:                                                                                                    \
        return "CW_" #name;
        CW_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
    }
    return "CW_?";
}

const char *cw_status_message(cw_status status)
{
    switch (status) {
#define TEXT_CASE(name, value, text)                                                                                   \
    case CW_##name:                                                                                                    \
        return text;
        CW_STATUS_MAP(TEXT_CASE)
#undef TEXT_CASE
    }
    return "unknown status";
}

static void fill(cw_error *err, cw_status status, uint64_t offset, const char *fmt, va_list args)
{
    if (!err)
        return;
    err->status = status;
    err->offset = offset;
    vsnprintf(err->message, sizeof err->message, fmt, args);
}

cw_status cwi_fail(cw_error *err, cw_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(err, status, CW_NO_OFFSET, fmt, args);
    va_end(args);
    return status;
}

cw_status cwi_fail_at(cw_error *err, cw_status status, uint64_t offset, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(err, status, offset, fmt, args);
    va_end(args);
    return status;
}

cw_status cwi_fail_memory(cw_error *err, size_t bytes)
{
    return cwi_fail(err, CW_ERR_NO_MEMORY, "out of memory (%zu bytes asked for)", bytes);
}

cw_status cwi_fail_prefix(cw_error *err, cw_status status, const char *fmt, ...)
{
    if (!err)
        return status;
    char tail[sizeof err->message];
    memcpy(tail, err->message, sizeof tail);
    va_list args;
    va_start(args, fmt);
    int used = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->message)
        snprintf(err->message + used, sizeof err->message - (size_t)used, ": %s", tail);
    err->status = status;
    return status;
}
