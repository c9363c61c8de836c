/* photo.h - a single JPEG or PNG file as a sample of a data set of images. Internal. */
#ifndef CWI_PHOTO_H
#define CWI_PHOTO_H

#include "cutwire/data.h"

typedef struct cwi_photo_reader cwi_photo_reader;

/* For samples of the data set that the spec names (NAME[@SIZE][:DIR]; it need not be there), of this shape.
 * CW_ERR_UNSUPPORTED: it is no set of images, or not of square ones. */
cw_status cwi_photo_open(const char *spec, const cw_shape *sample, cwi_photo_reader **out, cw_error *err);
void cwi_photo_close(cwi_photo_reader **reader);
/* x: the sample, normalized as the set's own. Photos of folders are resized and cropped as its test split is; for the
 * other sets the middle square is resized to their size, and made grey where they are. The errors of reading and of
 * cwi_image_decode. */
cw_status cwi_photo_read(cwi_photo_reader *reader, const char *path, float *x, cw_error *err);

#endif
