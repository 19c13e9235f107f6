// holdfast-sim: runs seeds, prints what failed and how to replay it.
#include <fmt/format.h>

#include <unistd.h>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "sim/world.h"

namespace hf::sim {
namespace {

struct Arguments {
  uint64_t from = 0;
  uint64_t to = 1000;  // not included
  Fault fault = Fault::kNone;
  bool single = false;  // with its trace on failure
  bool must_find = false;
  bool report = true;
};

constexpr std::string_view kUsage =
    "usage: holdfast-sim [--seeds FROM..TO | --seed N] [--fault NAME] [--must-find] [--quiet]\n"
    "  --seeds FROM..TO  run these seeds (TO not included) and stop at the first that fails\n"
    "  --seed N          replay one seed; its trace is printed if it fails\n"
    "  --fault NAME      plant a fault: sync-skipped, acked-before-appended, "
    "shipped-before-durable,\n"
    "                    records-swapped, close-not-checked, epoch-not-raised,\n"
    "                    overwritten-left-out, batch-mac-not-checked, ack-mac-not-checked,\n"
    "                    session-not-bound\n"
    "  --must-find       exit 0 only if some seed failed\n";

// What a production assertion needs to say which seed it was.
struct Current {
  uint64_t seed = 0;
  Fault fault = Fault::kNone;
  bool must_find = false;
};
Current current;

std::string replay_command(uint64_t seed, Fault fault) {
  std::string command = fmt::format("bin/holdfast-sim --seed {}", seed);
  if (fault != Fault::kNone) command += fmt::format(" --fault {}", to_string(fault));
  return command;
}

void on_abort(int) {
  // A broken assertion of the code under test is a finding like any other.
  fmt::print("seed {}: an assertion failed (above)\nreplay: {}\n", current.seed,
             replay_command(current.seed, current.fault));
  std::fflush(stdout);
  _exit(current.must_find ? 0 : 1);
}

std::optional<uint64_t> parse_number(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

bool parse_seeds(std::string_view text, Arguments& arguments) {
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) return false;
  const auto from = parse_number(text.substr(0, dots));
  const auto to = parse_number(text.substr(dots + 2));
  if (!from || !to || *from >= *to) return false;
  arguments.from = *from;
  arguments.to = *to;
  return true;
}

std::optional<Arguments> parse(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i < count; i++) {
    const std::string_view name = values[i];
    const std::string_view value = i + 1 < count ? values[i + 1] : "";
    if (name == "--must-find") {
      arguments.must_find = true;
    } else if (name == "--quiet") {
      arguments.report = false;
    } else if (name == "--seeds" && parse_seeds(value, arguments)) {
      i++;
    } else if (const auto seed = parse_number(value); name == "--seed" && seed) {
      arguments.from = *seed;
      arguments.to = *seed + 1;
      arguments.single = true;
      i++;
    } else if (const auto fault = parse_fault(value); name == "--fault" && fault) {
      arguments.fault = *fault;
      i++;
    } else {
      return std::nullopt;
    }
  }
  return arguments;
}

void print_probes(const ProbeCounts& counts) {
  std::string never;
  for (size_t i = 0; i < kProbeCount; i++) {
    const char* name = to_string(static_cast<Probe>(i));
    if (counts[i] == 0)
      never += fmt::format("{}{}", never.empty() ? "" : ", ", name);
    else
      fmt::print("  {:>8}  {}\n", counts[i], name);
  }
  if (!never.empty()) fmt::print("  never reached: {}\n", never);
}

int run(const Arguments& arguments) {
  std::signal(SIGABRT, on_abort);
  ProbeCounts probes{};
  uint64_t operations = 0;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t seed = arguments.from; seed < arguments.to; seed++) {
    current = {.seed = seed, .fault = arguments.fault, .must_find = arguments.must_find};
    World world(seed, arguments.fault, arguments.single);
    world.run();
    for (size_t i = 0; i < kProbeCount; i++) probes[i] += world.judge.probes()[i];
    operations += world.operations();
    if (!world.judge.verdict()) continue;
    for (const std::string& line : world.judge.trace()) fmt::print("{}\n", line);
    fmt::print("seed {}: {}\nreplay: {}\n", seed, *world.judge.verdict(),
               replay_command(seed, arguments.fault));
    return arguments.must_find ? 0 : 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const uint64_t seeds = arguments.to - arguments.from;
  fmt::print("{} seeds without a violation, {} guest operations, {:.1f} s, {:.0f} seeds/s\n", seeds,
             operations, took.count(), static_cast<double>(seeds) / took.count());
  if (arguments.report) print_probes(probes);
  return arguments.must_find ? 1 : 0;
}

}  // namespace
}  // namespace hf::sim

int main(int count, char** values) {
  const auto arguments = hf::sim::parse(count, values);
  if (!arguments) {
    fmt::print(stderr, "{}", hf::sim::kUsage);
    return 2;
  }
  return hf::sim::run(*arguments);
}
