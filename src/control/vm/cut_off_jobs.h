// What became of a job that a dying holdfastd left, as its subject shows it now.
#pragma once

#include "control/services.h"

namespace hf::control {

struct Became {
  std::string effect;
  std::string mend;
};
// Once it is known what runs here.
Became what_became(Services& services, const JobRow& job);

}  // namespace hf::control
