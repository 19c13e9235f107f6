// Following a job, which goes on without whoever follows it.
#pragma once

#include "cli/core/output.h"

namespace hf::cli {

// To its end, its steps on stderr; its result. Ctrl-C (and SIGTERM, SIGHUP) ends this program at
// once with 128 + the signal's number, and says that the job goes on, how to follow it, and how to
// cancel it or why it cannot be.
Result<sys::JsonObject> follow_job(const Context& context, Client& client,
                                   const sys::JsonValue& started);

// The same, to the job as it is when it has ended, however it did.
Result<sys::JsonObject> await_job(const Context& context, Client& client,
                                  const sys::JsonValue& started);

// "holdfast", with the state directory where it is not the usual one.
std::string own_words(const Context& context);

}  // namespace hf::cli
