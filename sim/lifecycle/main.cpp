// holdfast-lifecycle: runs seeds and cases of the lifecycle's simulator.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>

#include "sim/lifecycle/world.h"

namespace hf::sim::life {
namespace {

constexpr std::string_view kUsage =
    "usage: holdfast-lifecycle [--seeds FROM..TO | --seed N | --cases [K/N] | --case N | "
    "--list-cases]\n"
    "                          [--leave-out ACT/EFFECT]... [--real-signatures] [--fault NAME] "
    "[--must-find] [--keep-going] "
    "[--quiet]\n"
    "  --seeds FROM..TO   run these seeds (TO not included) and stop at the first that fails\n"
    "  --cases [K/N]      every case (of N parts the K-th, from 0)\n"
    "  --seed N, --case N one, with its trace if it fails\n";

struct Arguments {
  uint64_t from = 0, to = 1000;
  uint64_t part = 0, parts = 1;
  bool cases = false, list = false, single = false, real = false, must_find = false, quiet = false;
  bool keep_going = false;
  std::vector<std::string> left_out;
  Fault fault = Fault::kNone;
};

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool pair_of(std::string_view text, std::string_view between, uint64_t& first, uint64_t& second) {
  const size_t at = text.find(between);
  if (at == std::string_view::npos) return false;
  const auto one = number(text.substr(0, at));
  const auto two = number(text.substr(at + between.size()));
  if (!one || !two || *one >= *two) return false;
  first = *one;
  second = *two;
  return true;
}

std::optional<Arguments> parse(int count, char** values) {
  Arguments out;
  for (int i = 1; i < count; ++i) {
    const std::string_view name = values[i];
    const std::string_view value = i + 1 < count ? values[i + 1] : "";
    const auto one = number(value);
    if (name == "--real-signatures") {
      out.real = true;
    } else if (name == "--must-find") {
      out.must_find = true;
    } else if (name == "--keep-going") {
      out.keep_going = true;
    } else if (name == "--quiet") {
      out.quiet = true;
    } else if (name == "--list-cases") {
      out.list = true;
    } else if (name == "--cases") {
      out.cases = true;
      if (pair_of(value, "/", out.part, out.parts)) ++i;
    } else if (name == "--leave-out" && !value.empty()) {
      out.left_out.emplace_back(value);
      ++i;
    } else if (name == "--seeds" && pair_of(value, "..", out.from, out.to)) {
      ++i;
    } else if ((name == "--seed" || name == "--case") && one) {
      out.from = *one;
      out.to = *one + 1;
      out.single = true;
      out.cases = name == "--case";
      ++i;
    } else if (const auto fault = parse_fault(value); name == "--fault" && fault) {
      out.fault = *fault;
      ++i;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

std::string current;
bool current_must_find = false;

// A broken assertion of the code under test is a finding like any other.
void on_abort(int) {
  fmt::print("{}: an assertion failed (above)\n", current);
  std::fflush(stdout);
  _exit(current_must_find ? 0 : 1);
}

int found(const World& world, const std::string& replay, const Arguments& arguments) {
  if (arguments.single)
    for (const std::string& line : world.trace()) fmt::print("{}\n", line);
  fmt::print("{}\nreplay: {}{}\n", *world.verdict(), replay,
             arguments.fault == Fault::kNone
                 ? ""
                 : fmt::format(" --fault {}", to_string(arguments.fault)));
  return arguments.must_find ? 0 : 1;
}

// Each state that the tables know was reached, or it is listed.
void print_unreached(const World::Reached& reached) {
  std::string never;
  for (size_t act = 0; act < lifecycle::kActs; ++act)
    for (const lifecycle::Effect effect : effects_of(static_cast<lifecycle::Act>(act)))
      if (reached[act][static_cast<size_t>(effect)] == 0)
        never +=
            fmt::format(" {}/{}", to_string(static_cast<lifecycle::Act>(act)), to_string(effect));
  fmt::print("never reached:{}\n", never.empty() ? " nothing" : never);
}

int run_cases(const Arguments& arguments) {
  const std::vector<Case> all = all_cases();
  const auto start = std::chrono::steady_clock::now();
  uint64_t run = 0, due = 0, failed = 0, left_out = 0;
  for (const Case& one : all) {
    const bool wanted = arguments.single ? one.number == arguments.from
                                         : one.number % arguments.parts == arguments.part;
    if (!wanted) continue;
    const std::string place = fmt::format("{}/{}", to_string(one.act), to_string(one.effect));
    if (std::ranges::find(arguments.left_out, place) != arguments.left_out.end()) {
      ++left_out;
      continue;
    }
    ++due;
    current = fmt::format("holdfast-lifecycle --case {}", one.number);
    World world({.seed = one.number, .fault = arguments.fault, .tracing = arguments.single});
    world.run_case(one);
    run += world.case_reached() ? 1 : 0;
    if (!world.verdict()) continue;
    fmt::print("{}: ", name_of(one));
    const int end = found(world, current, arguments);
    if (!arguments.keep_going) return end;
    ++failed;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  fmt::print(
      "cases enumerated: {}, due here: {}, left out here: {}, run: {}, failed: {}, {:.1f} s\n",
      all.size(), due, left_out, run, failed, took.count());
  if (arguments.must_find) return 1;  // found() would have ended it
  return run == due && failed == 0 ? 0 : 1;
}

int run_seeds(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<uint64_t> events, changes;
  uint64_t conflicts = 0;
  World::Reached reached{};
  for (uint64_t seed = arguments.from; seed < arguments.to; ++seed) {
    current = fmt::format("holdfast-lifecycle --seed {}", seed);
    World world({.seed = seed,
                 .fault = arguments.fault,
                 .tracing = arguments.single,
                 .real_signatures = arguments.real});
    world.run_seed();
    if (world.verdict()) {
      fmt::print("seed {}: ", seed);
      return found(world, current, arguments);
    }
    events.push_back(world.events());
    changes.push_back(world.changes());
    conflicts += world.conflicts();
    for (size_t act = 0; act < reached.size(); ++act)
      for (size_t effect = 0; effect < reached[act].size(); ++effect)
        reached[act][effect] += world.reached()[act][effect];
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::ranges::sort(events);
  std::ranges::sort(changes);
  fmt::print(
      "{} seeds without a violation, {:.1f} s, {:.0f} seeds/s; median {} events, {} changes of "
      "holder; {} conflicts were settled\n",
      events.size(), took.count(), static_cast<double>(events.size()) / took.count(),
      events[events.size() / 2], changes[changes.size() / 2], conflicts);
  if (!arguments.quiet) print_unreached(reached);
  return arguments.must_find ? 1 : 0;
}

}  // namespace
}  // namespace hf::sim::life

int main(int count, char** values) {
  using namespace hf::sim::life;  // NOLINT(google-build-using-namespace)
  const auto arguments = parse(count, values);
  if (!arguments) {
    fmt::print(stderr, "{}", kUsage);
    return 2;
  }
  current_must_find = arguments->must_find;
  std::signal(SIGABRT, on_abort);
  if (arguments->list) {
    for (const Case& one : all_cases()) fmt::print("{}\n", name_of(one));
    return 0;
  }
  return arguments->cases ? run_cases(*arguments) : run_seeds(*arguments);
}
