#pragma once

#define HOLDFAST_VERSION "0.1.0"
