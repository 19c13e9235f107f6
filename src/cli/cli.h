// holdfast [--state DIR] [-o table|json] <noun> <verb> …
#pragma once

namespace CLI {
class App;
}

namespace hf::cli {

struct Line;

// Every noun with its verbs and options; what is parsed goes into `line`, which outlives `app`.
void add_grammar(CLI::App& app, Line& line);

// One command line, as main() gets it. Exit code: 0 done; 1 the command failed, and said why on
// stderr; 2 the line was not understood.
int run(int argc, const char* const* argv);

}  // namespace hf::cli
