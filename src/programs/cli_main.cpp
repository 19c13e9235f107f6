#include "cli/cli.h"

int main(int argc, char** argv) { return hf::cli::run(argc, argv); }
