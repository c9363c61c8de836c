/* file.h - atomic writing of a file that is put together from several pieces of memory. Internal. */
#ifndef CWI_FILE_H
#define CWI_FILE_H

#include "cutwire/io.h"

typedef struct cwi_piece {
    const void *data;
    size_t size;
} cwi_piece;

/* As cw_file_write, of the pieces one after the other, without gathering them in memory first. */
cw_status cwi_file_write_pieces(const char *path, const cwi_piece *pieces, size_t count, cw_error *err);

#endif
