/* cutwire/cutwire.h - the whole library's API. A device that only compresses needs cutwire/codec.h alone. */
#ifndef CUTWIRE_CUTWIRE_H
#define CUTWIRE_CUTWIRE_H

#include "cutwire/codec.h"
#include "cutwire/config.h"
#include "cutwire/data.h"
#include "cutwire/feed.h"
#include "cutwire/half.h"
#include "cutwire/infer.h"
#include "cutwire/io.h"
#include "cutwire/model.h"
#include "cutwire/net.h"
#include "cutwire/nn.h"
#include "cutwire/record.h"
#include "cutwire/status.h"
#include "cutwire/tensor.h"
#include "cutwire/train.h"
#include "cutwire/version.h"
#include "cutwire/wire.h"

#endif
