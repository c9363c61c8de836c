/* table_file.h - the rows of a table's file, and what stands in a cell. Internal. */
#ifndef CWI_TABLE_FILE_H
#define CWI_TABLE_FILE_H

#include "data/name_list.h"
#include "data/records.h"

enum { CWI_MAX_VALUE = 1000 }; /* bytes */

typedef struct cwi_table_file {
    cwi_records records;
    size_t fields; /* 0: not known yet */
    bool stops;    /* adult.test: a full stop stands behind every class */
} cwi_table_file;

/* Opens a .csv and appends its header's names; UCI's own adult.data and adult.test have none. CW_ERR_CORRUPT names file
 * and line. On failure nothing is open. */
cw_status cwi_table_open(cwi_table_file *s, const char *path, cwi_names *header, cw_error *err);
/* The next row into s->records, all rows of as many fields; the class is the last one. Line breaks within a value
 * become a blank. CW_END. */
cw_status cwi_table_next(cwi_table_file *s, cw_error *err);
void cwi_table_close(cwi_table_file *s);

typedef enum cwi_cell { CWI_CELL_NUMBER, CWI_CELL_MISSING, CWI_CELL_INFINITE, CWI_CELL_OTHER } cwi_cell;

/* What a cell holds; *value is set for a number, which is a decimal one: strtod takes hexadecimal ones, too. */
cwi_cell cwi_cell_read(const char *text, double *value);

#endif
