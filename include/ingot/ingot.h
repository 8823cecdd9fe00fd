/* ingot/ingot.h - everything public. */
#ifndef INGOT_INGOT_H
#define INGOT_INGOT_H

#include "ingot/base.h"
#include "ingot/tensor.h"
#include "ingot/ops.h"
#include "ingot/flow.h"
#include "ingot/custom.h"
#include "ingot/trace.h"
#include "ingot/module.h"
#include "ingot/transform.h"
#include "ingot/grad.h"
#include "ingot/nn.h"
#include "ingot/threads.h"

#endif
