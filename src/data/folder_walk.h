/* folder_walk.h - the photos of a split's class folders, in the order of torchvision's ImageFolder, and a count of what
 * was passed over on the way. Internal. */
#ifndef CWI_FOLDER_WALK_H
#define CWI_FOLDER_WALK_H

#include "data/name_list.h"

/* Why something was passed over. */
typedef enum cwi_skip {
    CWI_SKIP_FORMAT,  /* a picture by its name, of a kind that is not read */
    CWI_SKIP_HIDDEN,  /* a file or a folder whose name begins with a dot; macOS puts ._NAME beside NAME */
    CWI_SKIP_OUTSIDE, /* a photo that lies in no class folder */
    CWI_SKIP_LOOP,    /* a link to a folder that it lies in */
    CWI_SKIP_SPECIAL, /* a link to nothing, a pipe, a device */
    CWI_SKIP_OTHER,   /* a file that is no picture by its name */
    CWI_SKIPS
} cwi_skip;

typedef struct cwi_skipped {
    size_t count[CWI_SKIPS];
    char first[CWI_SKIPS][128]; /* an example of each, relative to the split's folder */
} cwi_skipped;

size_t cwi_skipped_total(const cwi_skipped *s);
/* "5 files skipped: 2 of formats that are not read (a/x.webp, ...), ..."; empty where none was. */
void cwi_skipped_describe(const cwi_skipped *s, char *text, size_t size);

/* The class folders of `root`, sorted. CW_ERR_IO, CW_ERR_NO_MEMORY. */
cw_status cwi_walk_classes(const char *root, cwi_names *out, cwi_skipped *skipped, cw_error *err);
/* Appends the photos below ROOT/CLASS as "CLASS/.../FILE", folder after folder, each sorted. Links are followed. */
cw_status cwi_walk_photos(const char *root, const char *class, cwi_names *out, cwi_skipped *skipped, cw_error *err);

#endif
