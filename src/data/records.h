/* records.h - comma- or tab-separated files, record by record. Internal. */
#ifndef CWI_RECORDS_H
#define CWI_RECORDS_H

#include "base/base.h"

enum { CWI_RECORD_FIELDS = 256 };

typedef struct cwi_records {
    char *path;
    char *text; /* the whole file and a terminator; fields point into it and are changed in place */
    char *p, *end;
    char separator; /* ',': fields may be "quoted", blanks around them are dropped; '\t': taken as they are */
    char newline;   /* '\n', which a '\r' may precede, or '\r' alone */
    size_t line;    /* of the record last read, from 1 */
    size_t next_line;
    char *field[CWI_RECORD_FIELDS]; /* of that record, terminated */
    size_t fields;
} cwi_records;

/* Passes over UTF-8's byte order mark; refuses UTF-16 and other files with NUL bytes. On failure nothing is owned. */
cw_status cwi_records_open(cwi_records *r, const char *path, char separator, cw_error *err);
/* The same of bytes in memory (made by cwi_alloc), which are taken over, also on failure; `path` is for messages. */
cw_status cwi_records_take(cwi_records *r, const char *path, uint8_t *bytes, size_t size, char separator,
                           cw_error *err);
void cwi_records_close(cwi_records *r);
/* The next record that is not blank (between commas: has a field that is not empty); CW_END after the last.
 * CW_ERR_CORRUPT names file and line. */
cw_status cwi_records_next(cwi_records *r, cw_error *err);
/* Fails with "PATH, line N: ..." */
cw_status cwi_records_fail(const cwi_records *r, cw_error *err, const char *what);

#endif
