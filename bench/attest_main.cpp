// What one appraisal costs: evidence as JSON in, quote verified, event log parsed, replayed and
// judged by policy and baseline, attestation result signed and out. Nothing is kept from one
// request to the next, neither keys nor policies; only the site's signing key is at hand.
//
//   holdfast-attest-bench BOOT.bin VMS QUOTES_EACH ROUNDS THREADS [SAMPLES DIRECTORY]
//
// Prints a line of JSON. SAMPLES: so many requests are written to DIRECTORY as tpm2-tools take
// them, with the token that answers each, and the key set.
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "attestation/appraisal/evidence_appraisal.h"
#include "attestation/token/ear.h"
#include "bench/attest_load.h"
#include "sys/system_clock.h"

namespace hf::bench {
namespace {

using namespace attestation;
using SteadyClock = std::chrono::steady_clock;

struct Site {
  crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  std::string kid = thumbprint(key.public_key()).value();
  Es256Signer signer = [this](ByteSpan bytes) { return es256_sign(key, bytes); };
};

Result<std::string> answer(const Request& request, const Site& site) {
  const Evidence evidence = TRY(parse_evidence(request.evidence));
  const Policy policy = TRY(built_in_policy("linux"));
  const Baseline baseline = TRY(parse_baseline(request.vm->baseline));
  EvidenceQuestion question{.nonce = request.nonce, .policy = &policy, .baseline = &baseline};
  question.context.vm = request.vm->id;
  question.context.pinned_ak_name = request.vm->ak_name;
  question.context.now = sys::SystemClock().wall_time();
  const EvidenceAnswer judged = TRY(appraise_evidence(evidence, question));
  if (judged.appraisal.verdict != Verdict::kHealthy) {
    return Error{.code = ErrorCode::kInternal, .cause = judged.appraisal.summary()};
  }
  Ear ear = to_ear(judged, request.nonce);
  ear.verifier_build = "holdfast-attest-bench";
  return issue_ear(ear, site.kid, site.signer);
}

struct Round {
  double seconds = 0;
  double cpu_seconds = 0;  // of the whole process: tells a busy machine from slow code
  std::vector<double> latencies_ms;
  std::optional<Error> error;  // of a request that was not answered
};

double process_cpu_seconds() {
  timespec now{};
  HF_ASSERT(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

Round run_round(const std::vector<Request>& requests, const Site& site, size_t threads) {
  std::atomic<size_t> next = 0;
  std::vector<std::optional<Error>> errors(threads);
  std::vector<std::vector<double>> latencies(threads);
  const double cpu_before = process_cpu_seconds();
  const auto started = SteadyClock::now();
  {
    std::vector<std::jthread> workers;
    for (size_t worker = 0; worker < threads; ++worker) {
      workers.emplace_back([&, worker] {
        for (size_t i = next++; i < requests.size(); i = next++) {
          const auto begun = SteadyClock::now();
          Result<std::string> token = answer(requests[i], site);
          if (!token.ok()) errors[worker] = std::move(token).error();
          const std::chrono::duration<double, std::milli> took = SteadyClock::now() - begun;
          latencies[worker].push_back(took.count());
        }
      });
    }
  }
  Round round{.seconds = std::chrono::duration<double>(SteadyClock::now() - started).count(),
              .cpu_seconds = process_cpu_seconds() - cpu_before};
  for (std::optional<Error>& error : errors) {
    if (error) round.error = std::move(error);
  }
  for (const std::vector<double>& part : latencies) {
    round.latencies_ms.insert(round.latencies_ms.end(), part.begin(), part.end());
  }
  return round;
}

double percentile(std::vector<double>& values, double share) {
  std::ranges::sort(values);
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(share * static_cast<double>(values.size())))];
}

void write_file(const std::string& path, ByteSpan bytes) {
  std::ofstream(path, std::ios::binary) << as_text(bytes);
}

// One request as files for tpm2_checkquote and tpm2_eventlog.
Status write_sample(const Request& request, const Site& site, const std::string& stem) {
  const Vm& vm = *request.vm;
  const Evidence evidence = TRY(parse_evidence(request.evidence));
  const std::string pem = vm.ak->key().public_key().to_pem();
  write_file(stem + ".ak.pem", as_bytes(pem));
  write_file(stem + ".quote", evidence.quote);
  write_file(stem + ".signature", evidence.signature);
  write_file(stem + ".log", vm.log);
  Bytes values;
  for (const auto& value : vm.pcrs[0].values) {
    if (value) values.insert(values.end(), value->begin(), value->end());
  }
  write_file(stem + ".pcrs", values);
  write_file(stem + ".nonce", as_bytes(to_hex(request.nonce)));
  write_file(stem + ".evidence.json", as_bytes(request.evidence));
  const std::string token = TRY(answer(request, site));
  write_file(stem + ".token", as_bytes(token));
  return {};
}

struct Arguments {
  std::string boot;
  size_t vms, quotes, rounds, threads;
  size_t samples = 0;
  std::string directory;
};

Status run(const Arguments& arguments) {
  const Bytes boot = TRY(read_boot(arguments.boot));
  const std::vector<Vm> vms = TRY(make_vms(arguments.vms, boot, arguments.threads));
  const Site site;
  std::vector<Request> requests;
  for (size_t quote = 0; quote < arguments.quotes; ++quote) {
    for (const Vm& vm : vms) requests.push_back(make_request(vm));
  }
  for (size_t i = 0; i < std::min(arguments.samples, requests.size()); ++i) {
    TRY(write_sample(requests[i], site, arguments.directory + "/" + std::to_string(i)));
  }
  sys::JsonObject out;
  if (arguments.samples > 0) {
    const sys::JsonObject keys{{"keys", sys::JsonArray{TRY(to_jwk(site.key.public_key()))}}};
    write_file(arguments.directory + "/jwks.json", as_bytes(sys::to_text(keys)));
  }
  std::fprintf(stderr, "%zu VMs and %zu requests are made; measuring\n", vms.size(),
               requests.size());
  sys::JsonArray& rates = out["rounds_per_s"].emplace_array();
  std::vector<double> latencies;
  double cpu_seconds = 0;
  for (size_t i = 0; i < arguments.rounds; ++i) {
    Round round = run_round(requests, site, arguments.threads);
    if (round.error) return std::move(*round.error);
    rates.emplace_back(static_cast<double>(requests.size()) / round.seconds);
    cpu_seconds += round.cpu_seconds;
    latencies.insert(latencies.end(), round.latencies_ms.begin(), round.latencies_ms.end());
  }
  out["vms"] = arguments.vms;
  out["requests_a_round"] = requests.size();
  out["threads"] = arguments.threads;
  out["events"] = kEventsOfLog;
  out["log_bytes"] = vms[0].log.size();
  out["evidence_bytes"] = requests[0].evidence.size();
  if (!latencies.empty()) {
    out["cpu_us"] = cpu_seconds * 1e6 / static_cast<double>(latencies.size());
    out["p50_ms"] = percentile(latencies, 0.50);
    out["p99_ms"] = percentile(latencies, 0.99);
    out["max_ms"] = latencies.back();
  }
  std::puts(sys::to_text(out).c_str());
  return {};
}

}  // namespace
}  // namespace hf::bench

int main(int argc, char** argv) {
  if (argc != 6 && argc != 8) {
    std::fputs(
        "holdfast-attest-bench BOOT.bin VMS QUOTES_EACH ROUNDS THREADS [SAMPLES DIRECTORY]\n",
        stderr);
    return 2;
  }
  const auto number = [&](int i) {
    return static_cast<size_t>(std::strtoul(argv[i], nullptr, 10));
  };
  hf::bench::Arguments arguments{.boot = argv[1],
                                 .vms = std::max<size_t>(number(2), 1),
                                 .quotes = std::max<size_t>(number(3), 1),
                                 .rounds = number(4),
                                 .threads = std::max<size_t>(number(5), 1)};
  if (argc == 8) {
    arguments.samples = number(6);
    arguments.directory = argv[7];
  }
  const hf::Status done = hf::bench::run(arguments);
  if (done.ok()) return 0;
  std::fprintf(stderr, "%s\n", done.error().describe().c_str());
  return 1;
}
