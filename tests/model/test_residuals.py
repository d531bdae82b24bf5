import numpy as np

from demist_app.model.residuals import PSR_MAX, Residuals, residual_sd


def test_the_sd_is_that_of_each_prediction():
    rng = np.random.default_rng(0)
    residuals = Residuals()
    predicted = rng.uniform(0, PSR_MAX, 400_000)
    residuals.add(predicted, predicted + rng.normal(0, 0.1 + 0.1 * predicted))
    table = residuals.table()
    np.testing.assert_allclose(table, 0.1 + 0.1 * (np.arange(25) + 0.5), rtol=0.03)
    np.testing.assert_allclose(residual_sd(np.array([10.5, 11.0]), table)[0], table[10])


def test_subjects_count_alike_whatever_their_size():
    residuals = Residuals()
    residuals.add(np.full(10, 5.5), np.full(10, 6.5))  # off by 1
    residuals.add(np.full(1000, 5.5), np.full(1000, 8.5))  # off by 3
    np.testing.assert_allclose(residuals.table()[5], np.sqrt((1 + 9) / 2))


def test_what_was_never_predicted_borrows_from_its_neighbours():
    residuals = Residuals()
    residuals.add(np.array([2.5, 6.5]), np.array([3.5, 9.5]))
    table = residuals.table()
    np.testing.assert_allclose(table[[0, 2, 4, 6, 24]], [1, 1, 2, 3, 3])
