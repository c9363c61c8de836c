/* data_catalog.h - where the known data sets come from, and the checksums of their files. */
#ifndef DATA_CATALOG_H
#define DATA_CATALOG_H

#include <stdbool.h>
#include <stddef.h>

enum { MAX_FILES = 8, MAX_EDITIONS = 3 };

typedef struct catalog_file {
    const char *name; /* NULL: the end */
    const char *sum;  /* "sha256:..." or "md5:..." */
} catalog_file;

/* One set of files that together are the data set. */
typedef struct catalog_edition {
    const char *label; /* NULL: the end */
    catalog_file files[MAX_FILES + 1];
} catalog_edition;

typedef struct catalog_download {
    const char *url; /* NULL: the end */
    const char *sum;
    bool archive; /* a .tar.gz that holds the set's folder; else a file of the set */
} catalog_download;

typedef struct catalog_set {
    const char *name;
    const char *folder; /* where fetched files go, under the data folder; an archive brings it */
    bool copy;          /* the address is not that of the set's makers but of somebody's copy */
    catalog_download downloads[MAX_FILES + 1];
    catalog_edition editions[MAX_EDITIONS + 1]; /* none: too many files, decoding all of them is the check */
} catalog_set;

/* NULL when there is no set of that name that could be fetched. */
const catalog_set *catalog_find(const char *name);
/* 0 <= i; NULL after the last. */
const catalog_set *catalog_at(size_t i);

#endif
