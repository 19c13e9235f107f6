// What is to be done about an error of which nobody said it: the kind of an error, and whose it is,
// say something too. Nothing names what is not there.
#pragma once

#include <string>

#include "base/error.h"

namespace hf::cli {

// As it is, if it is whole. A mend that is missing is that of the error's kind.
Error completed(Error error);
// One that holdfastd said: it stands in its log too, perhaps with what led to it.
Error completed_of_site(Error error, const std::string& state);

}  // namespace hf::cli
