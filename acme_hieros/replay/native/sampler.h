// Efficient time-balanced sampling (Hieros, arXiv 2310.05167, section 3.3).
//
// Of n keys, oldest first, the one at floor(n y) is drawn, where
//   y = tau u (1 - ln u) + (1 - tau) u = u (1 - tau ln u),  u uniform on (0, 1].
// y(u) is the quantile function of the age, and its inverse the distribution
// function: the key of rank i has the probability Cdf((i+1)/n) - Cdf(i/n).
// tau, the temperature, is 0 for uniform sampling.
#ifndef ACME_HIEROS_REPLAY_NATIVE_SAMPLER_H_
#define ACME_HIEROS_REPLAY_NATIVE_SAMPLER_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>

#include "time_order.h"

namespace acme_hieros {

class TimeBalancedSampler {
 public:
  TimeBalancedSampler(double temperature, uint64_t seed)
      : temperature_(temperature), engine_(seed) {}

  TimeOrder& order() { return order_; }
  const TimeOrder& order() const { return order_; }

  struct Draw {
    TimeOrder::Key key;
    double probability;
  };

  // There must be a key.
  Draw Sample() {
    const size_t n = order_.size();
    // 53 random bits, on (0, 1]: u = 0 has no logarithm.
    const double u = static_cast<double>((engine_() >> 11) + 1) * 0x1p-53;
    const double log_u = std::log(u);
    const double count = static_cast<double>(n);
    const size_t rank =
        std::min(n - 1, static_cast<size_t>(count * Quantile(u, log_u)));
    const double first = static_cast<double>(rank);
    return {order_.At(rank), Cdf((first + 1.0) / count, u, log_u) -
                                 Cdf(first / count, u, log_u)};
  }

 private:
  double Quantile(double u, double log_u) const {
    return u * (1.0 - temperature_ * log_u);
  }

  // Solves Quantile(u) = y from any u in (0, 1]; the closer, the faster.
  double Cdf(double y, double u, double log_u) const {
    if (y <= 0.0) return 0.0;
    if (y >= 1.0) return 1.0;
    for (int i = 0; i < kMaxSteps; ++i) {
      // At temperature 1 the slope vanishes at u = 1: the step is infinite.
      const double slope = 1.0 - temperature_ - temperature_ * log_u;
      const double step = (y - Quantile(u, log_u)) / slope;
      const double relative = step / u;
      const double bend = temperature_ * relative / slope;
      if (std::fabs(relative) < 1e-3 && std::fabs(bend) < 1e-3) {
        // The inverse's Taylor series up to the third order: what is left out
        // is less than 1e-8 of the step. From the u of a draw among many keys
        // this is the first thing that happens, without another logarithm.
        return u + step * (1.0 + bend * (0.5 + 0.5 * bend - relative / 6.0));
      }
      // Newton's method. Quantile is increasing and concave: after the first
      // step u lies below the solution and only rises.
      u = std::min(step > -u ? u + step : 0.5 * u, 1.0);
      log_u = std::log(u);
    }
    return u;
  }

  // Newton needs 2 to 4; halving from u = 1 to the least y, 2^-53, needs more.
  static constexpr int kMaxSteps = 100;

  const double temperature_;
  std::mt19937_64 engine_;
  TimeOrder order_;
};

}  // namespace acme_hieros

#endif  // ACME_HIEROS_REPLAY_NATIVE_SAMPLER_H_
